from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from podium.sdk import specs
from podium.sdk.errors import InvalidArgument
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


def test_a_rate_is_a_key_a_number_and_a_time() -> None:
    limits = [("api", 60, timedelta(minutes=1))]
    (rate,) = specs.build("work", "x", {"rate_limits": limits}).rate_limits

    assert (rate.key, rate.limit, rate.period.seconds) == ("api", 60, 60)
    with pytest.raises(InvalidArgument) as refused:
        specs.build("work", "x", {"rate_limits": [("api", 60, 1.0)]})  # type: ignore[list-item]  # wrong on purpose
    assert refused.value.violations[0].field == "rate_limits"


def fields(spec: TaskSpec) -> dict[str, float]:
    """Return what a task says of time."""
    found = {}
    for name in ("deadline", "deadline_after", "not_before", "delay"):
        if spec.HasField(name):
            value = getattr(spec, name)
            found[name] = value.seconds + value.nanos / 1e9
    return found
