from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from services.edge.adapters import scalars
from services.edge.adapters.strict import Fault


@given(st.integers(-62_135_596_800, 253_402_300_799), st.integers(0, 999_999_999))
def test_moments_are_spelled_as_protobuf_spells_them(seconds: int, nanos: int) -> None:
    moment = Timestamp(seconds=seconds, nanos=nanos)

    text = scalars.from_timestamp(moment)

    assert text == moment.ToJsonString()
    assert scalars.to_timestamp(text) == moment


@given(st.integers(-315_576_000_000, 315_576_000_000), st.integers(0, 999_999_999))
def test_spans_are_spelled_as_protobuf_spells_them(seconds: int, nanos: int) -> None:
    span = Duration(seconds=seconds, nanos=-nanos if seconds < 0 else nanos)

    text = scalars.from_duration(span)

    assert text == span.ToJsonString()
    assert scalars.to_duration(text) == span


@given(st.binary(max_size=64))
def test_bytes_come_back(data: bytes) -> None:
    assert scalars.to_bytes(scalars.from_bytes(data)) == data


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_short_numbers_lose_no_digit_that_people_see(value: float) -> None:
    assert scalars.from_float(value) == pytest.approx(value, rel=1e-6)


def test_a_moment_with_an_offset_is_the_same_moment_in_utc() -> None:
    moment = scalars.to_timestamp("2026-01-31T09:30:00.25+01:30")

    assert scalars.from_timestamp(moment) == "2026-01-31T08:00:00.250Z"


@pytest.mark.parametrize(
    "value",
    [
        *("", "now", "2026-01-31", "2026-01-31T08:00:00", "2026-02-30T08:00:00Z", 5, None),
        *("2026-01-31T08:00:60Z", "2026-01-31 08:00:00Z", "0000-01-01T00:00:00Z"),
        *("2026-01-31T08:00:00.1234567890Z", "9999-12-31T23:59:59-01:00", "२०२६-01-31T08:00:00Z"),
    ],
)
def test_what_is_no_moment_is_refused(value: Any) -> None:
    with pytest.raises(Fault):
        scalars.to_timestamp(value)


@pytest.mark.parametrize(
    "value", ["", "5", "5 s", "1.s", "+5s", "1e3s", "5ms", "9999999999999s", "315576000001s", 5]
)
def test_what_is_no_span_is_refused(value: Any) -> None:
    with pytest.raises(Fault):
        scalars.to_duration(value)


@pytest.mark.parametrize("value", ["@@@@", "YQ", "YQ=", "Y Q==", "YQ==\n", "_-_-", 7, []])
def test_bad_base64_is_refused(value: Any) -> None:
    with pytest.raises(Fault):
        scalars.to_bytes(value)
