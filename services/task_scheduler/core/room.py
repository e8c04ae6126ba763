"""What the backlog has room for: its bounds, the part kept for urgent tasks, when to come again.

The last tenth of the bounds is for tasks of priority 6 and more. A flood of ordinary tasks fills
the rest and is refused; what is urgent goes on being taken, and passes it in the queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.kernel.errors import InvalidArgument, ResourceExhausted
from services.kernel.instant import Instant
from services.task_scheduler.core.book import Book
from services.task_scheduler.core.event import Terms
from services.task_scheduler.core.limits import URGENT_PRIORITY

URGENT_SHARE = 10
"""One in so many places is kept for urgent tasks."""
RETRY_AFTER_S_MIN, RETRY_AFTER_S_MAX = 0.05, 1.0
DRAINED_SHARE = 20
"""Who is refused comes back when one in so many places has become free."""
SAMPLE_S = 0.25


class Load(Protocol):
    """What takes room."""

    @property
    def head(self) -> bytes:
        """The task without its payload."""

    @property
    def payload(self) -> bytes:
        """The payload."""

    @property
    def terms(self) -> Terms:
        """Tells the priority."""


class Room:
    """Says whether more tasks fit."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._taken = 0
        self._ended = 0
        self._sampled_s = float("-inf")
        self._ended_per_s = 0.0

    def check(self, created: Sequence[Load], now: Instant) -> None:
        """Raise when there is no room for all of `created`.

        Raises:
            InvalidArgument: BATCH_TOO_LARGE, an empty backlog would have no room for them either.
            ResourceExhausted: BACKLOG_FULL; `urgent_priority` in its metadata is the priority from
                which tasks are still taken.
        """
        book, limits = self._book, self._book.limits
        size_bytes = sum([len(one.head) + len(one.payload) for one in created])
        tasks, held_bytes = book.open_tasks + len(created), book.open_bytes + size_bytes
        tasks_max, bytes_max = limits.open_tasks_max, limits.open_bytes_max
        if tasks <= _ordinary(tasks_max) and held_bytes <= _ordinary(bytes_max):
            return
        whole = tasks > tasks_max or held_bytes > bytes_max
        urgent = all(one.terms.priority >= URGENT_PRIORITY for one in created)
        if not whole and urgent:
            return
        if not urgent:
            tasks_max, bytes_max = _ordinary(tasks_max), _ordinary(bytes_max)
        if len(created) > tasks_max or size_bytes > bytes_max:
            raise _never(len(created), size_bytes, tasks_max, bytes_max)
        raise self._full(now, urgent=urgent)

    def _full(self, now: Instant, *, urgent: bool) -> ResourceExhausted:
        book, limits = self._book, self._book.limits
        tasks_max, bytes_max = limits.open_tasks_max, limits.open_bytes_max
        metadata = {"open_tasks": str(book.open_tasks), "open_tasks_max": str(tasks_max)}
        full = book.open_tasks >= tasks_max or book.open_bytes >= bytes_max
        if not full and not urgent:
            metadata["urgent_priority"] = str(URGENT_PRIORITY)
        return ResourceExhausted(
            "BACKLOG_FULL",
            f"{book.open_tasks} tasks of at most {tasks_max} wait or run, with {book.open_bytes} "
            f"of at most {bytes_max} bytes, a tenth of it kept for priority {URGENT_PRIORITY} and "
            "more: submit again later.",
            metadata=metadata,
            retry_after_s=self._retry_after_s(now),
        )

    def taken(self, count: int, now: Instant) -> None:
        """Note that tasks were taken in."""
        self._taken += count
        if now.mono_s - self._sampled_s > SAMPLE_S:
            self._sample(now)

    def _sample(self, now: Instant) -> None:
        ended, passed_s = self._taken - self._book.open_tasks, now.mono_s - self._sampled_s
        self._ended_per_s = (ended - self._ended) / passed_s
        self._ended, self._sampled_s = ended, now.mono_s

    def _retry_after_s(self, now: Instant) -> float:
        """Return how long a part of the backlog takes to end, as fast as tasks ended lately."""
        if now.mono_s - self._sampled_s > SAMPLE_S:
            self._sample(now)
        if self._ended_per_s <= 0:
            return RETRY_AFTER_S_MAX
        wait_s = self._book.limits.open_tasks_max / DRAINED_SHARE / self._ended_per_s
        return round(min(RETRY_AFTER_S_MAX, max(RETRY_AFTER_S_MIN, wait_s)), 3)


def _ordinary(most: int) -> int:
    return most - most // URGENT_SHARE


def _never(tasks: int, size_bytes: int, tasks_max: int, bytes_max: int) -> InvalidArgument:
    return InvalidArgument(
        "BATCH_TOO_LARGE",
        f"{tasks} tasks with {size_bytes} bytes in one request, and all open tasks together may "
        f"be {tasks_max} with {bytes_max} bytes at these priorities: split it.",
        metadata={"batch_len_max": str(tasks_max), "batch_bytes_max": str(bytes_max)},
    )
