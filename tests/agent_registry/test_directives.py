from __future__ import annotations

from services.agent_registry.core.directives import Directives
from tests.agent_registry.hall import Hall


def test_a_router_is_told_the_newest_of_each_agent_once() -> None:
    hall, directives = Hall(), Directives()
    agent = hall.agent("a", router="r1")
    directives.put(agent, hall.time)
    agent.draining = True
    directives.put(agent, hall.time)
    directives.put(agent, hall.time, "r2")

    told = directives.take()

    assert {router: [each.draining for each in told[router]] for router in told} == {
        "r1": [True],
        "r2": [True],
    }
    assert directives.take() == {}


def test_a_router_that_is_gone_is_told_nothing() -> None:
    hall, directives = Hall(), Directives()
    directives.put(hall.agent("a", router="r1"), hall.time)

    directives.drop("r1")

    assert directives.take() == {}


def test_an_agent_without_a_router_is_nobodys_matter() -> None:
    hall, directives = Hall(), Directives()
    agent = hall.agent("a")
    agent.router_id = ""

    directives.put(agent, hall.time)

    assert directives.take() == {}
