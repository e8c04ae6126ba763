from __future__ import annotations

import pytest

from services.agent_registry.core.forecast import Forecast, forecast
from tests.agent_registry.hall import Hall


@pytest.fixture
def hall() -> Hall:
    """Two agents that take 2 s a task, of which one is full, and one of which nothing is known."""
    hall = Hall()
    hall.agent("free", max_concurrency=2)
    hall.agent("full", max_concurrency=4)
    for agent_id in ("free", "full"):
        hall.outcome(agent_id, "SUCCEEDED", run_s=2.0)
    hall.alive("free", load=1)
    hall.alive("full", load=4)
    return hall


def found(hall: Hall, ahead_count: int = 0) -> Forecast:
    return forecast(hall.registry.agents.values(), "echo", ahead_count)


def test_who_has_a_free_slot_keeps_nobody_waiting(hall: Hall) -> None:
    told = found(hall)

    assert [each.agent.agent_id for each in told.candidates] == ["free", "full"]
    assert (told.ready_count, told.free_slots, told.wait_s) == (1, 1, 0.0)
    assert [(each.wait_s, each.run_s) for each in told.candidates] == [(0.0, 2.0), (0.5, 2.0)]


@pytest.mark.parametrize(("ahead", "wait_s"), [(0, 0.0), (1, 1 / 3), (3, 1.0), (300, 100.0)])
def test_tasks_that_come_first_take_slots_as_they_become_free(
    hall: Hall, ahead: int, wait_s: float
) -> None:
    # Six slots of 2 s each: one becomes free every third of a second.
    assert found(hall, ahead).wait_s == pytest.approx(wait_s)


def test_those_who_fail_often_are_expected_to_take_longer(hall: Hall) -> None:
    hall.agent("sloppy")
    hall.outcome("sloppy", "SUCCEEDED", run_s=1.5)
    hall.outcome("sloppy", "FAILED")

    assert [each.agent.agent_id for each in found(hall).candidates] == ["free", "full", "sloppy"]


def test_of_whom_nothing_is_known_the_others_are_taken_as_a_measure(hall: Hall) -> None:
    hall.agent("new")
    hall.alive("new", load=1)

    told = {each.agent.agent_id: each for each in found(hall).candidates}

    assert (told["new"].wait_s, told["new"].run_s, told["new"].success_rate) == (2.0, 2.0, 1.0)


def test_nothing_is_told_that_is_not_known() -> None:
    hall = Hall()
    assert found(hall) == Forecast([], 0, 0, None)

    hall.agent("new")
    assert found(hall).wait_s == 0.0
    hall.alive("new", load=1)
    told = found(hall)
    assert (told.wait_s, told.candidates[0].wait_s, told.candidates[0].run_s) == (None, None, None)


def test_who_takes_no_work_is_no_candidate(hall: Hall) -> None:
    for agent_id in ("drained", "held", "broken", "gone", "silent"):
        hall.agent(agent_id)
    hall.registry.drain(["drained"], "", hall.time)
    hall.registry.quarantine("held", "", hall.time)
    for _ in range(6):
        hall.outcome("broken", "FAILED")
    hall.registry.closed("gone", "r1", hall.time, orderly=True)
    hall.registry.agents["silent"].silent = True

    assert {each.agent.agent_id for each in found(hall).candidates} == {"free", "full"}
