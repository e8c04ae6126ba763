from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.kernel.errors import InvalidArgument
from services.task_scheduler.servicer.relay import PARTITION_KEY, Relay


def named(*values: str | bytes, count: int = 12) -> int | None:
    """Returns which partition a call names with these headers."""
    metadata = [("authorization", "Bearer x"), *((PARTITION_KEY, value) for value in values)]
    context = SimpleNamespace(invocation_metadata=lambda: metadata)
    places = SimpleNamespace(count=count)
    return Relay(cast(Any, places), cast(Any, None)).named(cast(Any, context))


def test_a_call_that_was_passed_on_names_its_partition() -> None:
    assert [named(), named("0"), named(b"7"), named("11")] == [None, 0, 7, 11]


@pytest.mark.parametrize(
    "value", ["12", "-1", "", " 1", "1.0", "x", "007", "9" * 5_000, b"\xff", "\u0663"]
)
def test_one_that_there_is_not_is_refused_by_name(value: str | bytes) -> None:
    with pytest.raises(InvalidArgument) as refused:
        named(value)

    assert refused.value.reason == "PARTITION_UNKNOWN"
    assert len(refused.value.metadata["partition"]) <= 64
