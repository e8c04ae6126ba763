"""The times at which a schedule was due while nobody looked.

Each look into the calendar costs about as much as granting a task, and after a long absence there
are thousands for one schedule alone. So they are generators that yield at each look: whoever runs
them goes on with other work when it has been enough.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator

After = Callable[[int], int]
"""Returns the first time after a wall time at which a schedule is due; 0 = never."""

SPAN_MS = 60_000
"""How far back is looked first: no expression fires more often than once a minute."""
FURTHER = 4
"""How many times as far the next look goes."""


def newest(
    after: After, first_ms: int, now_ms: int, len_max: int
) -> Generator[None, None, list[int]]:
    """Return the last times at which it was due, without a look at all of those before.

    Args:
        after: The times.
        first_ms: One of them, before which none counts.
        now_ms: The time, from which is looked back.
        len_max: How many are wanted.
    """
    span_ms = SPAN_MS
    while True:
        times: deque[int] = deque(maxlen=len_max)
        begin_ms = now_ms - span_ms
        at_ms = first_ms
        if begin_ms > first_ms:
            yield
            at_ms = after(begin_ms)
        while 0 < at_ms <= now_ms:
            times.append(at_ms)
            yield
            at_ms = after(at_ms)
        if begin_ms <= first_ms or len(times) == len_max:
            return list(times)
        span_ms *= FURTHER


def count(
    after: After, first_ms: int, end_ms: int, most: int
) -> Generator[None, None, tuple[int, int]]:
    """Return how many times there are from one of them on before `end_ms`, and where it stopped.

    Args:
        after: The times.
        first_ms: The first of them.
        end_ms: The time that counts no more; one of them, or long past the last.
        most: How many are looked at.
    """
    counted, at_ms = 0, first_ms
    while 0 < at_ms < end_ms and counted < most:
        counted += 1
        yield
        at_ms = after(at_ms)
    return counted, at_ms
