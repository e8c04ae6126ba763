from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import DoubleValue, Int64Value, StringValue
from hypothesis import given
from hypothesis import strategies as st

from services.task_scheduler.adapters.wire import (
    double,
    duration,
    field,
    tag,
    timestamp,
    varint,
)


@given(st.integers(0, 2**63 - 1))
def test_numbers_read_as_the_library_reads_them(value: int) -> None:
    assert Int64Value.FromString(b"\x08" + varint(value)).value == value


@pytest.mark.parametrize("value", [0, 127, 128, 16_383, 16_384])
def test_numbers_at_the_edges_of_a_byte(value: int) -> None:
    assert Int64Value.FromString(b"\x08" + varint(value)).value == value


def test_fields_nest() -> None:
    assert StringValue.FromString(field(tag(1), b"x" * 300)).value == "x" * 300
    assert tag(18) == b"\x92\x01"


@given(st.integers(0, 4_000_000_000_000))
def test_times_keep_their_milliseconds(wall_ms: int) -> None:
    assert Timestamp.FromString(timestamp(wall_ms)).ToMilliseconds() == wall_ms


@given(st.integers(0, 10**15))
def test_durations_keep_their_microseconds(us: int) -> None:
    assert Duration.FromString(duration(us)).ToMicroseconds() == us


def test_doubles_are_exact() -> None:
    assert DoubleValue.FromString(double(b"\x09", 0.1)).value == 0.1


@pytest.mark.parametrize("value", [-1, -100_000, -(1 << 63)])
def test_a_negative_number_is_no_varint(value: int) -> None:
    with pytest.raises(ValueError, match="no varint"):
        varint(value)
