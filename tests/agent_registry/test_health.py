from __future__ import annotations

import pytest

from services.agent_registry.core.agent import Status, Told
from services.agent_registry.core.breaker import State
from tests.agent_registry.hall import Hall


def test_a_bad_agent_is_cut_off_probed_and_taken_back() -> None:
    hall = Hall()
    agent = hall.agent("bad")
    for _ in range(6):
        hall.outcome("bad", "FAILED")
    assert hall.directives[-1][0] == "r1"
    assert hall.directives[-1][1].breaker is State.OPEN
    assert hall.directives[-1][1].failure_rate == 1.0
    assert not agent.takes_work

    hall.alive("bad")
    hall.sleep(10)
    assert hall.directives[-1][1].breaker is State.HALF_OPEN
    hall.outcome("bad", "SUCCEEDED")
    assert hall.directives[-1][1].breaker is State.CLOSED
    assert agent.takes_work


def test_a_breaker_outlives_a_reconnect() -> None:
    hall = Hall()
    hall.agent("bad")
    for _ in range(6):
        hall.outcome("bad", "LOST")
    hall.directives.clear()

    hall.agent("bad", router="r2", instance="i2")
    hall.tell()

    assert [d.breaker for router, d in hall.directives if router == "r2"] == [State.OPEN]


def test_what_was_canceled_is_nobodys_fault() -> None:
    hall = Hall()
    agent = hall.agent("a1")
    for _ in range(20):
        hall.outcome("a1", "CANCELED")

    assert agent.breaker.state is State.CLOSED
    assert agent.statistics.items() == []


def test_tasks_that_fail_everywhere_open_no_breaker() -> None:
    hall = Hall()
    agents = [hall.agent(f"a{number}") for number in range(3)]
    for number in range(20):
        for agent in agents:
            hall.outcome(agent.agent_id, "FAILED", f"poison-{number}")

    assert {agent.breaker.state for agent in agents} == {State.CLOSED}
    for agent in agents:
        assert sum(numbers.failed for _, numbers in agent.statistics.items()) == 0


def test_two_bad_agents_cannot_hide_behind_each_other() -> None:
    hall = Hall()
    bad = [hall.agent("bad-1"), hall.agent("bad-2")]
    good = hall.agent("good")
    for number in range(8):
        for agent in (*bad, good):
            kind = "SUCCEEDED" if agent is good else "FAILED"
            hall.outcome(agent.agent_id, kind, f"t{number}")

    assert [agent.breaker.state for agent in bad] == [State.OPEN, State.OPEN]
    assert good.breaker.state is State.CLOSED


def test_release_closes_an_open_breaker() -> None:
    hall = Hall()
    agent = hall.agent("a1")
    for _ in range(6):
        hall.outcome("a1", "NOT_ACKED")

    hall.registry.release("a1", hall.time)

    assert agent.breaker.state is State.CLOSED


def test_f26_a_registry_that_begins_anew_keeps_from_work_who_was_kept_from_it() -> None:
    hall = Hall()
    told = Told(State.CLOSED, False, True, "odd answers")

    agent = hall.agent("a1", told=told)
    hall.tell()

    assert agent.status is Status.QUARANTINED
    assert agent.reason == "odd answers"
    [(router_id, directive)] = hall.directives
    assert (router_id, directive.quarantined, directive.reason) == ("r1", True, "odd answers")
    hall.registry.release("a1", hall.time)
    hall.tell()
    assert not hall.directives[-1][1].quarantined


@pytest.mark.parametrize("state", [State.OPEN, State.HALF_OPEN])
def test_f26_a_registry_that_begins_anew_lets_an_open_breaker_cool_down(state: State) -> None:
    hall = Hall()

    agent = hall.agent("a1", told=Told(state))

    assert agent.breaker.state is state
    hall.alive("a1")
    hall.sleep(10)
    assert agent.breaker.state is State.HALF_OPEN
    hall.outcome("a1", "SUCCEEDED")
    assert hall.directives[-1][1].breaker is State.CLOSED


def test_a_router_that_missed_a_release_is_told_when_it_comes_back() -> None:
    hall = Hall()
    hall.agent("a1")
    hall.registry.quarantine("a1", "odd answers", hall.time)
    hall.tell()
    hall.registry.router_gone("r1", hall.time)
    hall.registry.release("a1", hall.time)
    hall.tell()
    hall.directives.clear()

    hall.agent("a1", told=Told(State.CLOSED, False, True, "odd answers"))
    hall.tell()

    assert [directive.quarantined for _, directive in hall.directives] == [False]
