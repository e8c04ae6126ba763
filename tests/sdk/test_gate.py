from __future__ import annotations

import pytest

from podium.sdk import gate
from podium.sdk.errors import ResourceExhausted
from podium.v1 import task_pb2


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(gate, "time", clock)
    return clock


def error(reason: str = "BACKLOG_FULL", urgent: str = "") -> ResourceExhausted:
    metadata = {"urgent_priority": urgent} if urgent else {}
    return ResourceExhausted(reason, "no room", metadata=metadata, retry_after_s=0.5)


def spec(priority: int | None = None) -> task_pb2.TaskSpec:
    return task_pb2.TaskSpec(priority=priority)


def test_it_lets_all_pass_until_the_backlog_is_full() -> None:
    assert not gate.Gate().shut
    assert gate.Gate().refusal(spec(), 1_000_000) is None


def test_it_answers_like_the_scheduler_until_the_time_that_was_named(clock: Clock) -> None:
    held = gate.Gate()
    held.refused(error(), 100)
    clock.now_s += 0.2

    refusal = held.refusal(spec(9), 0)

    assert refusal is not None
    assert (refusal.reason, refusal.message) == ("BACKLOG_FULL", "no room")
    assert refusal.retry_after_s == pytest.approx(0.3)
    clock.now_s += 0.3
    assert held.refusal(spec(), 0) is None


def test_then_it_lets_as_many_wait_for_an_answer_as_its_window_holds(clock: Clock) -> None:
    held = gate.Gate()
    held.refused(error(), 100)
    clock.now_s += 0.5

    assert held.refusal(spec(), 69) is None
    refusal = held.refusal(spec(), 70)
    assert refusal is not None
    assert refusal.retry_after_s == 0.5


def window(held: gate.Gate) -> int:
    return next(n for n in range(10_000) if held.refusal(spec(), n) is not None)


def test_the_window_grows_with_what_is_taken_and_shrinks_with_each_refusal(clock: Clock) -> None:
    held = gate.Gate()
    held.refused(error(), 1_000)
    clock.now_s += 0.5
    assert window(held) == 700

    held.taken(700)
    assert window(held) == 716
    held.refused(error(), 500)
    clock.now_s += 0.5
    assert window(held) == 350
    held.refused(error(), 3)
    clock.now_s += 0.5
    assert window(held) == 16, "never so small that it could not grow"


def test_calls_that_met_the_same_full_backlog_shrink_it_once(clock: Clock) -> None:
    held = gate.Gate()
    held.refused(error(), 1_000)
    clock.now_s += 0.1
    held.refused(error(), 600)
    clock.now_s += 0.5

    assert window(held) == 700


def test_it_opens_when_nothing_had_to_be_held_back_for_a_second(clock: Clock) -> None:
    held = gate.Gate()
    held.refused(error(), 100)
    clock.now_s += 1.4
    assert held.refusal(spec(), 1_000) is not None
    clock.now_s += 0.9
    assert held.refusal(spec(), 1_000) is not None, "it was needed less than a second ago"
    clock.now_s += 1.0

    assert held.refusal(spec(), 1_000) is None
    assert not held.shut


@pytest.mark.parametrize(("priority", "passes"), [(None, False), (0, False), (6, True), (9, True)])
def test_it_holds_back_only_what_the_scheduler_does_not_take(
    clock: Clock, priority: int | None, passes: bool
) -> None:
    held = gate.Gate()
    held.refused(error(urgent="6"), 100)

    assert (held.refusal(spec(priority), 0) is None) is passes
    clock.now_s += 0.5
    assert (held.refusal(spec(priority), 1_000) is None) is passes
    assert held.shut


@pytest.mark.parametrize("reason", ["TENANT_RATE", "STORAGE_FULL", "LINEAGE_BUDGET"])
def test_other_limits_are_not_for_all_tasks(reason: str) -> None:
    held = gate.Gate()

    held.refused(error(reason), 100)

    assert not held.shut
