"""Records as plain values, and back: fields are named, so that versions may differ in some."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from services.task_scheduler.core.event import (
    Created,
    Failure,
    Origin,
    Plan,
    RateLimit,
    Terms,
    Usage,
)
from services.task_scheduler.core.pauses import Pause, Scope
from services.task_scheduler.core.retry import RetryPolicy

Plain = dict[str, Any]
"""Numbers, text, bytes, None, tuples, lists and dicts of them, and nothing else."""

FIELDS: dict[type, tuple[str, ...]] = {
    Created: Created._fields,
    Origin: Origin._fields,
    RateLimit: RateLimit._fields,
    Pause: Pause._fields,
    Plan: Plan._fields,
    Scope: Scope._fields,
    Terms: Terms._fields,
    RetryPolicy: RetryPolicy._fields,
    Failure: Failure._fields,
    Usage: Usage._fields,
}


def plain(value: Any) -> Any:
    """Return a value with records as dicts and states as numbers."""
    fields = FIELDS.get(type(value))
    if fields is not None:
        return {name: plain(part) for name, part in zip(fields, value, strict=True)}
    if isinstance(value, IntEnum):
        return int(value)
    return tuple(map(plain, value)) if type(value) is tuple else value


def record(cls: Any, value: Plain) -> Any:
    """Return the record of a class, without fields that it does not know."""
    known: tuple[str, ...] = cls._fields
    return cls(**{name: part for name, part in value.items() if name in known})
