"""Rules of the times that requests name."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from podium.v1.task_pb2 import TaskSpec
from services.kernel import limits
from services.kernel.rules import Checker

NOT_BEFORE_S_MAX = 366 * 24 * 3600.0
SPAN_S_MIN = 0.001


def check_times(checker: Checker, at: str, spec: TaskSpec, now_ms: int) -> None:
    """Check when a task may begin and when it expires.

    Args:
        checker: Is told what is wrong.
        at: Where the task stands in the request.
        spec: The task.
        now_ms: The time now.
    """
    if spec.HasField("deadline"):
        path, ahead_s = at + "deadline", limits.deadline_s_max
        # Whether it lies ahead is asked of new tasks alone: a repeat has its answer also later.
        if check_time(checker, path, spec.deadline, now_ms, ahead_s) == 0:
            checker.fault(path, "must lie ahead")
    if spec.HasField("not_before"):
        check_time(checker, at + "not_before", spec.not_before, now_ms, NOT_BEFORE_S_MAX)
    if spec.HasField("deadline_after") or spec.HasField("delay"):
        _check_spans(checker, at, spec)


def check_time(
    checker: Checker, path: str, time: Timestamp, now_ms: int, ahead_s: float
) -> int | None:
    """Return a time in milliseconds, or None when it is not valid or too far ahead.

    Args:
        checker: Is told what is wrong.
        path: The field.
        time: Its value.
        now_ms: The time now.
        ahead_s: How far ahead it may lie.
    """
    # The generated classes only convert what is well formed, and raise for the rest.
    formed = 0 <= time.nanos <= 999_999_999 and time.seconds >= 0
    if not checker.require(path, formed, "must be a valid time"):
        return None
    near = time.seconds * 1000 <= now_ms + ahead_s * 1000
    if not checker.require(path, near, f"must be at most {ahead_s / 86_400:g} days ahead"):
        return None
    return time.ToMilliseconds()


def _check_spans(checker: Checker, at: str, spec: TaskSpec) -> None:
    sound = True
    if spec.HasField("deadline_after"):
        path = at + "deadline_after"
        sound = checker.duration(path, spec.deadline_after, SPAN_S_MIN)
        checker.require(path, not spec.HasField("deadline"), "must not be given beside deadline")
    if spec.HasField("delay"):
        path, alone = at + "delay", not spec.HasField("not_before")
        sound = checker.duration(path, spec.delay, 0.0, NOT_BEFORE_S_MAX) and sound
        checker.require(path, alone, "must not be given beside not_before")
        if sound and spec.HasField("deadline_after"):
            before = spec.delay.ToMilliseconds() < spec.deadline_after.ToMilliseconds()
            checker.require(path, before, "must be shorter than deadline_after")
