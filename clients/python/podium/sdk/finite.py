"""Numbers that JSON has no word for, and that its writers turn into null without a sound."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Iterator, Mapping
from typing import Any


class NotFinite(TypeError):
    """A value holds NaN or infinity; the message says where."""


def check(value: Any, path: str = "") -> None:
    """Looks for such numbers in whatever JSON can hold.

    Args:
        value: what orjson has written without an error, so that it has an end.
        path: where it is.

    Raises:
        NotFinite: there is one.
    """
    if _is_plain(value):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NotFinite(f"{path or 'it'} is {float(value)}, which JSON cannot hold")
        return
    for each, where in _parts(value, path):
        check(each, where)


def _is_plain(value: Any) -> bool:
    """Tells of plain data without such a number that it is that; quick, since most values are."""
    rest = [value]
    while rest:
        one = rest.pop()
        kind = type(one)
        if kind is str or kind is int or one is None or kind is bool:
            continue
        if kind is float:
            if not math.isfinite(one):
                return False
        elif kind is dict:
            rest += one
            rest += one.values()
        elif kind is list or kind is tuple:
            rest += one
        else:
            return False
    return True


def _parts(value: Any, path: str) -> Iterator[tuple[Any, str]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield key, f"a key of {path or 'it'}"
            yield each, f"{path}.{key}" if path else str(key)
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield each, f"{path}[{number}]"
    elif isinstance(value, set | frozenset):
        for each in value:
            yield each, f"one of {path or 'it'}"
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            where = f"{path}.{field.name}" if path else field.name
            yield getattr(value, field.name, None), where
    else:
        yield from ((each, path) for each in _inside(value))


def _inside(value: Any) -> Iterator[Any]:
    """Yields what stands in JSON for a value that has a shape of its own."""
    if isinstance(value, enum.Enum):
        yield value.value
    elif hasattr(value, "model_dump"):
        # A model may have chosen null for such numbers.
        if getattr(value, "model_config", {}).get("ser_json_inf_nan") != "null":
            yield value.model_dump()
    elif hasattr(value, "dtype") and hasattr(value, "tolist"):  # of numpy
        yield value.tolist()
