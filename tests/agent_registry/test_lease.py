from __future__ import annotations

from services.agent_registry.core.agent import Status
from services.agent_registry.core.registry import Registry
from services.kernel.instant import Instant
from tests.agent_registry.hall import Hall


def test_agents_that_fall_silent_together_get_a_second_grace_and_an_alert() -> None:
    hall = Hall(grace_s=60, suspect_s=30)
    agents = [hall.agent(f"a{number}") for number in range(10)]

    hall.sleep(61)

    assert {agent.status for agent in agents} == {Status.SUSPECT}
    assert hall.registry.alerts == 1
    hall.sleep(60)
    assert {agent.status for agent in agents} == {Status.OFFLINE}
    assert hall.registry.alerts == 1, "the grace is extended once"


def test_agents_whose_router_died_get_it_too() -> None:
    hall = Hall(grace_s=60, suspect_s=30)
    agents = [hall.agent(f"a{number}") for number in range(10)]
    hall.agent("other", router="r2")

    hall.registry.router_gone("r1", hall.time)
    for _ in range(100):
        hall.alive("other", router="r2")
        hall.sleep(1)

    assert {agent.status for agent in agents} == {Status.SUSPECT}


def test_one_agent_among_many_that_falls_silent_is_gone_after_its_grace() -> None:
    hall = Hall(grace_s=60, suspect_s=30)
    agents = [hall.agent(f"a{number}") for number in range(10)]

    for _ in range(61):
        hall.alive(*(f"a{number}" for number in range(9)))
        hall.sleep(1)

    assert agents[9].status is Status.OFFLINE
    assert {agent.status for agent in agents[:9]} == {Status.IDLE}
    assert hall.registry.alerts == 0


def test_an_agent_that_is_heard_again_has_its_next_silence_judged_anew() -> None:
    hall = Hall(grace_s=10, suspect_s=5)
    agents = [hall.agent(f"a{number}") for number in range(10)]
    names = [agent.agent_id for agent in agents]
    hall.sleep(11)
    hall.alive(*names)

    hall.sleep(11)

    assert {agent.status for agent in agents} == {Status.SUSPECT}
    assert hall.registry.alerts == 2


def test_agents_of_another_replica_are_judged_by_what_could_be_heard_of_them() -> None:
    hall = Hall(grace_s=60, suspect_s=30)
    hall.registry = Registry(hall.registry.limits, "here")
    own, others = hall.agent("own"), hall.agent("others")
    others.home = "there"
    hall.registry.told_s = hall.time.mono_s + 50

    hall.sleep(90)
    assert (own.status, others.status) == (Status.OFFLINE, Status.SUSPECT)

    hall.registry.told_s = hall.time.mono_s
    hall.sleep(1)
    assert others.status is Status.OFFLINE


def test_a_registry_that_stood_still_holds_no_silence_against_anyone() -> None:
    hall = Hall(grace_s=60, suspect_s=30)
    agent = hall.agent("a1")
    hall.sleep(20)

    hall.time = Instant(hall.time.mono_s + 300, hall.time.wall_ms + 300_000)
    hall.registry.tick(hall.time)
    assert agent.status is Status.IDLE

    hall.sleep(61)
    assert agent.status is Status.OFFLINE


def test_an_agent_that_was_taken_for_gone_is_back_as_soon_as_its_router_hears_it() -> None:
    hall = Hall(grace_s=60, suspect_s=30)
    agent = hall.agent("a1")
    hall.sleep(61)
    assert agent.status is Status.OFFLINE

    hall.alive("a1", router="r2")
    assert agent.status is Status.OFFLINE
    hall.alive("a1", load=1)

    assert (agent.status, agent.router_id) == (Status.BUSY, "r1")
    assert "a1" in hall.registry.take_changes()
    hall.sleep(61)
    assert agent.status is Status.OFFLINE
