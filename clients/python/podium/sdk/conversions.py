"""Checks and conversions of single values; a value that does not fit is told by its path."""

from __future__ import annotations

import base64
import decimal
import enum
import uuid
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

Convert = Callable[[Any, str], Any]
"""Takes a value and the path to it ("" at the top) and returns it converted, or raises Misfit."""

FAULTS_LEN_MAX = 20


class Misfit(ValueError):
    """Data that does not fit; `faults` are pairs of a path and what is wrong there."""

    def __init__(self, faults: Sequence[tuple[str, str]]) -> None:
        self.faults = tuple(faults)
        shown = [f"{path} {why}" if path else why for path, why in self.faults[:FAULTS_LEN_MAX]]
        if len(self.faults) > FAULTS_LEN_MAX:
            shown.append(f"and {len(self.faults) - FAULTS_LEN_MAX} more")
        super().__init__("; ".join(shown))


def below(path: str, name: str) -> str:
    """Returns the path to a part of what is at `path`."""
    return f"{path}.{name}" if path else name


def anything(value: Any, path: str) -> Any:
    """Takes any value as it is."""
    return value


def null(value: Any, path: str) -> None:
    """Takes nothing but null.

    Raises:
        Misfit: it is something.
    """
    if value is not None:
        raise Misfit([(path, "is not null")])


def _number(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Misfit([(path, "is not a number")])
    return float(value)


def _integer(value: Any, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Misfit([(path, "is not an integer")])
    return value


def _instance(kind: type, what: str) -> Convert:
    def convert(value: Any, path: str) -> Any:
        if not isinstance(value, kind):
            raise Misfit([(path, f"is not {what}")])
        return value

    return convert


def parsed(kind: type, parse: Callable[[str], Any], what: str) -> Convert:
    """Returns how to make a value of its spelling; a fault says that it is not `what`."""

    def convert(value: Any, path: str) -> Any:
        if isinstance(value, kind):
            return value
        try:
            return parse(value)
        except (TypeError, ValueError, AttributeError):
            raise Misfit([(path, f"is not {what}")]) from None

    return convert


def _decimal_of(value: Any, path: str) -> decimal.Decimal:
    fits = isinstance(value, str | int | float | decimal.Decimal) and not isinstance(value, bool)
    try:
        number = decimal.Decimal(str(value)) if fits else None
    except decimal.InvalidOperation:
        number = None
    if number is None or not number.is_finite():
        raise Misfit([(path, "is not a decimal number")])
    return number


def _span(value: Any, path: str) -> timedelta:
    if isinstance(value, timedelta):
        return value
    try:
        return timedelta(seconds=_number(value, path))
    except (Misfit, OverflowError, ValueError):
        raise Misfit([(path, "is not a number of seconds")]) from None


def _bytes(value: Any, path: str) -> bytes:
    """Takes bytes as JSON has them: base64 in either alphabet, as protobuf's JSON does."""
    if isinstance(value, bytes):
        return value
    if not path:  # text, which is a payload of its own and no part of JSON
        raise Misfit([(path, "is not bytes")])
    try:
        text = value.rstrip("=").translate(_STANDARD)
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (AttributeError, ValueError):
        raise Misfit([(path, "is not bytes in base64")]) from None


_STANDARD = str.maketrans("-_", "+/")

SCALARS: dict[type, Convert] = {
    str: _instance(str, "a string"),
    bytes: _bytes,
    bool: _instance(bool, "true or false"),
    int: _integer,
    float: _number,
    datetime: parsed(datetime, datetime.fromisoformat, "a date and time as ISO 8601 has it"),
    date: parsed(date, date.fromisoformat, "a date as ISO 8601 has it"),
    time: parsed(time, time.fromisoformat, "a time as ISO 8601 has it"),
    uuid.UUID: parsed(uuid.UUID, uuid.UUID, "a UUID"),
    decimal.Decimal: _decimal_of,
    timedelta: _span,
}


def one_of(values: tuple[Any, ...]) -> Convert:
    """Returns how to take some values and no others."""

    def convert(value: Any, path: str) -> Any:
        for each in values:
            # 1 == True, yet true is no 1 in JSON.
            if type(each) is type(value) and each == value:
                return value
        raise Misfit([(path, "is none of " + ", ".join(repr(each) for each in values))])

    return convert


def enumeration(kind: type[enum.Enum]) -> Convert:
    """Returns how to find a member by its value."""

    def convert(value: Any, path: str) -> Any:
        if isinstance(value, kind):
            return value
        for member in kind:
            if type(member.value) is type(value) and member.value == value:
                return member
        names = ", ".join(repr(member.value) for member in kind)
        raise Misfit([(path, f"is none of {names}")])

    return convert
