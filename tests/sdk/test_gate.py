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
    assert gate.Gate().refusal(spec()) is None


def test_it_answers_like_the_scheduler_until_the_time_that_was_named(clock: Clock) -> None:
    held = gate.Gate()
    held.refused(error())
    clock.now_s += 0.2

    refusal = held.refusal(spec(9))

    assert refusal is not None
    assert (refusal.reason, refusal.message) == ("BACKLOG_FULL", "no room")
    assert refusal.retry_after_s == pytest.approx(0.3)
    clock.now_s += 0.3
    assert held.refusal(spec()) is None
    assert not held.shut


@pytest.mark.parametrize(("priority", "passes"), [(None, False), (0, False), (6, True), (9, True)])
def test_it_holds_back_only_what_the_scheduler_does_not_take(
    clock: Clock, priority: int | None, passes: bool
) -> None:
    held = gate.Gate()
    held.refused(error(urgent="6"))

    assert (held.refusal(spec(priority)) is None) is passes
    assert held.shut


@pytest.mark.parametrize("reason", ["TENANT_RATE", "STORAGE_FULL", "LINEAGE_BUDGET"])
def test_other_limits_are_not_for_all_tasks(reason: str) -> None:
    held = gate.Gate()

    held.refused(error(reason))

    assert not held.shut
