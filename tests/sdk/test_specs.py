from __future__ import annotations

from datetime import UTC, datetime, timedelta

from podium.sdk import specs
from podium.v1.task_pb2 import TaskSpec

LATER = datetime(2030, 1, 1, tzinfo=UTC)


def test_a_span_stays_a_span_and_a_time_a_time() -> None:
    spans = specs.build(
        "work", "x", {"deadline": timedelta(minutes=5), "not_before": timedelta(seconds=0.5)}
    )
    times = specs.build("work", "x", {"deadline": LATER, "not_before": LATER})

    assert fields(spans) == {"deadline_after": 300.0, "delay": 0.5}
    assert fields(times) == {"deadline": LATER.timestamp(), "not_before": LATER.timestamp()}


def test_the_same_call_again_is_the_same_task() -> None:
    first, again = (
        specs.build("work", "x", {"request_id": "q", "deadline": timedelta(minutes=5)})
        for _ in range(2)
    )

    assert first == again


def fields(spec: TaskSpec) -> dict[str, float]:
    """Return what a task says of time."""
    found = {}
    for name in ("deadline", "deadline_after", "not_before", "delay"):
        if spec.HasField(name):
            value = getattr(spec, name)
            found[name] = value.seconds + value.nanos / 1e9
    return found
