"""Times of a suite's tasks, on its clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from podium.v1 import task_pb2

START = datetime(2024, 1, 1, tzinfo=UTC)
"""The time at which a suite begins, for its tasks."""
BACKOFF_S = 0.2
BACKOFF_S_MAX = 30.0


class Times(NamedTuple):
    """When a task may begin and when it expires, in seconds on the suite's clock."""

    start_s: float
    deadline_s: float | None


def times(spec: task_pb2.TaskSpec, now_s: float) -> Times:
    """Returns a task's times, and writes those in `spec` that it asks for as spans from now."""
    date(spec, START + timedelta(seconds=now_s))
    return Times(
        _since_start(spec.not_before) if spec.HasField("not_before") else 0.0,
        _since_start(spec.deadline) if spec.HasField("deadline") else None,
    )


def date(spec: task_pb2.TaskSpec, now: datetime) -> None:
    """Writes times where a task has spans, as a scheduler does that takes it in."""
    if spec.HasField("deadline_after"):
        spec.deadline.FromDatetime(now + spec.deadline_after.ToTimedelta())
        spec.ClearField("deadline_after")
    if spec.HasField("delay"):
        spec.not_before.FromDatetime(now + spec.delay.ToTimedelta())
        spec.ClearField("delay")


def backoff_s(policy: task_pb2.RetryPolicy, failures: int, drawn: float) -> float:
    """Returns how long a task waits after so many failures; `drawn` from 0 to 1 is the jitter."""
    first_s = policy.initial_backoff.ToTimedelta().total_seconds() or BACKOFF_S
    most_s = policy.max_backoff.ToTimedelta().total_seconds() or BACKOFF_S_MAX
    whole_s = min(most_s, first_s * (policy.backoff_multiplier or 2.0) ** (failures - 1))
    jitter = policy.jitter if policy.HasField("jitter") else 1.0
    return whole_s * (1 - jitter) + whole_s * jitter * drawn


def _since_start(when: Timestamp) -> float:
    return (when.ToDatetime(tzinfo=UTC) - START).total_seconds()
