"""The values of fields: from JSON with every check, and to JSON, as ProtoJSON spells them."""

from __future__ import annotations

import binascii
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from services.edge.adapters.strict import Fault

Convert = Callable[[Any], Any]

_DIGITS = re.compile(r"-?(0|[1-9][0-9]{0,19})")
_SPAN = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,9}))?s")
_MOMENT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:\.([0-9]{1,9}))?(Z|[+-][0-9]{2}:[0-9]{2})"
)
_SPAN_S_MAX = 315_576_000_000
"""Ten thousand years, the range of google.protobuf.Duration."""


def wrong(description: str) -> Fault:
    """Return the fault of a value that its field cannot hold."""
    return Fault("INVALID_FIELD", description)


def to_text(value: Any) -> str:
    """Return a string that UTF-8 can carry."""
    if type(value) is not str:
        raise wrong("must be a string")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise wrong("must not hold half of a surrogate pair") from None
    return value


def to_bool(value: Any) -> bool:
    """Return true or false."""
    if type(value) is not bool:
        raise wrong("must be true or false")
    return value


def to_bytes(value: Any) -> bytes:
    """Return the bytes of standard base64 with padding."""
    if type(value) is not str:
        raise wrong("must be a string of base64")
    try:
        return binascii.a2b_base64(value, strict_mode=True)
    except (binascii.Error, ValueError):
        raise wrong("must be standard base64 with padding") from None


def to_integer(low: int, high: int, *, text: bool) -> Convert:
    """Return a converter of whole numbers; 64-bit ones also come as text, as ProtoJSON has them."""

    def convert(value: Any) -> int:
        if type(value) is int:
            number = value
        elif text and type(value) is str and _DIGITS.fullmatch(value):
            number = int(value)
        else:
            raise wrong("must be a whole number" + (" or its digits as a string" if text else ""))
        if not low <= number <= high:
            raise wrong(f"must be from {low} to {high}")
        return number

    return convert


def to_number(value: Any) -> float:
    """Return a finite number."""
    if type(value) is not float and type(value) is not int:
        raise wrong("must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise wrong("must be finite")
    return number


def to_enum(numbers: dict[str, int]) -> Convert:
    """Return a converter of names of an enumeration."""

    def convert(value: Any) -> int:
        number = numbers.get(value) if type(value) is str else None
        if number is None:
            raise wrong("must be one of " + ", ".join(list(numbers)[1:]))
        return number

    return convert


def to_duration(value: Any) -> Duration:
    """Return a span of time from `1.5s`."""
    found = _SPAN.fullmatch(value) if type(value) is str else None
    if found is None or int(found[2]) > _SPAN_S_MAX:
        raise wrong("must be seconds such as 30s or 0.25s")
    sign = -1 if found[1] else 1
    return Duration(seconds=sign * int(found[2]), nanos=sign * int((found[3] or "").ljust(9, "0")))


def to_timestamp(value: Any) -> Timestamp:
    """Return a moment from RFC 3339 text such as `2026-01-31T08:00:00Z`."""
    found = _MOMENT.fullmatch(value) if type(value) is str else None
    try:
        if found is None:
            raise ValueError
        moment = datetime.fromisoformat(found[1] + ("+00:00" if found[3] == "Z" else found[3]))
        seconds = round(moment.timestamp())
        # A moment of the year 1 with an offset may lie before the year 1.
        datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError):
        raise wrong("must be a time such as 2026-01-31T08:00:00Z") from None
    return Timestamp(seconds=seconds, nanos=int((found[2] or "").ljust(9, "0")))


def from_bytes(value: bytes) -> str:
    """Return standard base64."""
    return binascii.b2a_base64(value, newline=False).decode("ascii")


def from_float(value: float) -> float:
    """Return a 32-bit number without the digits that only its 64-bit form has."""
    return float(f"{value:.7g}")


def from_enum(names: dict[int, str]) -> Convert:
    """Return a converter to names; a number without one stays a number, as ProtoJSON has it."""

    def convert(value: int) -> str | int:
        return names.get(value, value)

    return convert


def from_duration(value: Duration) -> str:
    """Return seconds with as many digits as needed, in threes."""
    seconds, nanos = value.seconds, value.nanos
    sign = "-" if seconds < 0 or nanos < 0 else ""
    return f"{sign}{abs(seconds)}{_fraction(abs(nanos))}s"


def from_timestamp(value: Timestamp) -> str:
    """Return RFC 3339 text in UTC."""
    return f"{_second(value.seconds)}{_fraction(value.nanos)}Z"


def _fraction(nanos: int) -> str:
    if not nanos:
        return ""
    if nanos % 1_000_000 == 0:
        return f".{nanos // 1_000_000:03}"
    return f".{nanos // 1_000:06}" if nanos % 1_000 == 0 else f".{nanos:09}"


# Most moments of one minute share few seconds: the calendar is asked once for each.
@lru_cache(maxsize=1_024)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
