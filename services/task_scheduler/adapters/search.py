"""Looking for bytes in the whole log, a bounded part of it at a time.

The log of a task that lives for days is many gigabytes, of which a few groups are its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

from services.task_scheduler.ports import Group

SEARCH_BYTES = 8 << 20
"""Looked through at a time: some milliseconds in which nobody else reads."""


class Looked(NamedTuple):
    """A group that was looked at."""

    first_seq: int
    last_seq: int
    wall_ms: int
    size_bytes: int
    frames: bytes | None
    """None = what is looked for is not in it."""


async def search(
    some: Callable[[int], Awaitable[Sequence[Looked]]], first_seq: int, last_seq: int
) -> AsyncIterator[Sequence[Group]]:
    """Yield what was found, part by part.

    Args:
        some: Looks at some groups from the one on that holds an event, or behind it.
        first_seq: The first event of the range.
        last_seq: Its last one.
    """
    while looked := await some(first_seq):
        yield [
            Group(one.first_seq, one.last_seq, one.frames, one.wall_ms)
            for one in looked
            if one.frames is not None
        ]
        first_seq = looked[-1].last_seq + 1
        if first_seq > last_seq:
            return


def look(rows: Iterable[Sequence[object]]) -> list[Looked]:
    """Return the first rows, about `SEARCH_BYTES` of them."""
    looked: list[Looked] = []
    left_bytes = SEARCH_BYTES
    for row in rows:
        looked.append(Looked(*row))  # type: ignore[arg-type]  # as the statement says
        left_bytes -= looked[-1].size_bytes
        if left_bytes <= 0:
            break
    return looked
