"""The state at one event as plain rows: what `restoring` makes a book of again.

A snapshot is taken a slice at a time while the book goes on changing: a task that is about to
change before its slice has come is copied first. Most of a snapshot is what the one before held,
and the bytes of that are taken over. What can be derived is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from services.task_scheduler.core.book import Book
from services.task_scheduler.core.records import Plain, plain
from services.task_scheduler.core.requests import Stretch
from services.task_scheduler.core.task import Attempt, Task

VERSION = 1
"""Raised when a reader that does not know of a change would misunderstand a snapshot."""
PART_LEN = 256
"""Tasks copied at a time: well below a millisecond of the event loop."""
KEPT_BYTES_MAX = 64 << 20
"""Bytes of parts that are kept in memory for the next snapshot: those of 100,000 small tasks and of
200,000 request ids take 37 MB."""
KEPT_PART_BYTES_MAX = 256 << 10
"""Parts of large tasks are made anew: that costs little more than copying their bytes."""

Row = tuple[Any, ...]
Pack = Callable[[Plain], bytes]

DERIVED = frozenset(
    {
        *("attempt_s", "created_s", "queued_s", "renewed_s"),  # this process's clock
        *("lane", "place", "said_bytes"),
    }
)
STORED = tuple(name for name in Task.__slots__ if name not in DERIVED)
_read = attrgetter(*STORED)
_read_attempt = attrgetter(*Attempt.__slots__)
_last_seq = attrgetter("last_seq")
_ATTEMPTS = STORED.index("attempts")
_FAILURE, _USAGE = Attempt.__slots__.index("failure"), Attempt.__slots__.index("usage")


class Picture:
    """The book at one event, to be taken in slices; the book must be between two steps."""

    def __init__(self, book: Book) -> None:
        assert not book.waits.affected and not book.outbox, "a snapshot lies between two steps"
        self.seq = book.seq
        self._book = book
        self.head: Plain = {
            "version": VERSION,
            "seq": book.seq,
            "lease_epoch": book.lease_epoch,
            "last_id": book.ids.last,
            "sticky": {},  # read by versions whose keys belonged to no tenant
            "sticky_keys": book.sticky.plain(),
            "shares": book.queue.shares.plain(),
            "pauses": [plain(pause) for pause in book.queue.pauses],
            "rates": book.queue.keys.rates.plain(),
            "lineages": book.lineages.plain(),
            "links": book.lineages.links(),
            "schedules": [{**row, "plan": plain(row["plan"])} for row in book.schedules.plain()],
            "tasks": len(book.tasks),
            "attempt": Attempt.__slots__,
        }
        self.requests = [table.stretches() for table in book.requests]
        """Of each kind of request ids."""
        self.tasks = list(book.tasks.values())
        """In order of creation; some may have changed since."""
        self._early: dict[int, Row] = {}
        """Rows of tasks that changed before their slice had come, by `created_seq`."""
        self._passed_seq = 0
        book.before_change = self._before

    def columns(self, tasks: Sequence[Task]) -> Plain:
        """Return the next tasks as they were; from now on they may change unseen."""
        rows = [self._early.pop(task.created_seq, ()) or _row(task) for task in tasks]
        self.passed(tasks)
        return _columns(rows)

    def passed(self, tasks: Sequence[Task]) -> None:
        """Let the next tasks change unseen."""
        self._passed_seq = tasks[-1].created_seq

    def drop(self) -> None:
        """Give the rest up."""
        if self._book.before_change == self._before:
            self._book.before_change = None

    def _before(self, task: Task) -> None:
        # In order of creation: what is behind the last slice, and what is newer, needs no copy.
        number = task.created_seq
        if self._passed_seq < number <= self.seq and number not in self._early:
            self._early[number] = _row(task)


class _Kept(NamedTuple):
    """Tasks that were packed, and when."""

    len: int
    last_created_seq: int
    seq: int
    """The event of their snapshot."""
    packed: bytes

    def holds(self, tasks: Sequence[Task]) -> bool:
        """Whether these are the same tasks, and unchanged; the first of them is."""
        # Tasks are forgotten, but none comes between two others: so it is enough to look at both
        # ends. Each event that changes what is stored of a task is told by its `last_seq`.
        return (
            len(tasks) == self.len
            and tasks[-1].created_seq == self.last_created_seq
            and max(map(_last_seq, tasks)) <= self.seq
        )


class Album:
    """Makes the packed parts of one snapshot after the other.

    What has not changed since the one before costs a look: its bytes are kept.

    Args:
        pack: Returns the bytes of a part.
        bytes_max: How many are kept at most; what is beyond is packed anew each time.
    """

    def __init__(self, pack: Pack, bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._pack = pack
        self._bytes_max = bytes_max
        self._left_bytes = 0
        self._tasks: dict[int, _Kept] = {}
        """By `created_seq` of the first task of each part."""
        self._requests: dict[int, tuple[Stretch, bytes]] = {}
        """By identity of their rows, which are held so that it stays theirs."""

    def parts(self, picture: Picture) -> Iterator[bytes]:
        """Yield a snapshot part by part; others may change the book in between."""
        self._left_bytes = self._bytes_max
        try:
            yield self._pack(picture.head)
            yield from self._request_parts(picture)
            yield from self._task_parts(picture)
        finally:
            picture.drop()

    def _task_parts(self, picture: Picture) -> Iterator[bytes]:
        before, self._tasks = self._tasks, {}
        tasks, first = picture.tasks, 0
        while first < len(tasks):
            kept = before.get(tasks[first].created_seq)
            if kept is not None:
                some = tasks[first : first + kept.len]
            if kept is not None and kept.holds(some):
                picture.passed(some)
            else:
                some = _until_kept(tasks[first : first + PART_LEN], before)
                packed = self._pack(picture.columns(some))
                kept = _Kept(len(some), some[-1].created_seq, picture.seq, packed)
            # Parts that have become small are joined with what is behind them.
            if kept.len >= PART_LEN // 2 and len(kept.packed) <= KEPT_PART_BYTES_MAX:
                self._keep(some[0].created_seq, kept)
            first += len(some)
            yield kept.packed

    def _request_parts(self, picture: Picture) -> Iterator[bytes]:
        before, self._requests = self._requests, {}
        for kind, stretches in enumerate(picture.requests):
            for stretch in stretches:
                found = before.get(id(stretch.rows))
                if found is not None and found[0] == stretch:
                    packed = found[1]
                else:
                    # An earlier version, which has one table, leaves the kind unread.
                    packed = self._pack({"requests": stretch.taken(), "kind": kind})
                if len(packed) <= self._left_bytes:
                    self._left_bytes -= len(packed)
                    self._requests[id(stretch.rows)] = stretch, packed
                yield packed

    def _keep(self, first_seq: int, kept: _Kept) -> None:
        """Keep a part, in place of the oldest ones when there is no room.

        Those are the first to change, when they are granted, and to be forgotten.
        """
        self._tasks[first_seq] = kept
        self._left_bytes -= len(kept.packed)
        while self._left_bytes < 0 and self._tasks:
            self._left_bytes += len(self._tasks.pop(next(iter(self._tasks))).packed)


def _until_kept(tasks: list[Task], kept: Container[int]) -> list[Task]:
    """Return the tasks before those that are kept together, the first in any case."""
    for number in range(1, len(tasks)):
        if tasks[number].created_seq in kept:
            return tasks[:number]
    return tasks


def _row(task: Task) -> Row:
    row: Row = _read(task)
    if not task.attempts:
        return row
    attempts = tuple([_attempt(attempt) for attempt in task.attempts])
    return (*row[:_ATTEMPTS], attempts, *row[_ATTEMPTS + 1 :])


def _attempt(attempt: Attempt) -> Row:
    row: Row = _read_attempt(attempt)
    # Most are plain already, and looking through all of a row takes as long as the rest together.
    return row if row[_FAILURE] is None and row[_USAGE] is None else plain(row)


def _columns(rows: Sequence[Row]) -> Plain:
    """Return rows as columns; one that has the same value everywhere as that value."""
    same: Plain = {}
    each: Plain = {}
    tables: Plain = {}
    for name, column in zip(STORED, zip(*rows, strict=True), strict=True):
        # Most that differ do so at both ends: to count takes 256 comparisons.
        if column[0] == column[-1] and column.count(column[0]) == len(column):
            same[name] = plain(column[0])
        elif name in _SHARED:
            # Few different ones, and hard to copy: stored once each.
            numbers = {value: number for number, value in enumerate(dict.fromkeys(column))}
            tables[name] = [plain(value) for value in numbers]
            each[name] = [numbers[value] for value in column]
        elif name in _RICH:
            each[name] = [plain(value) for value in column]
        else:
            each[name] = column
    return {"same": same, "each": each, "tables": tables, "len": len(rows)}


_SHARED = frozenset({"terms", "needs", "origin"})
"""Columns with few different values."""
_RICH = frozenset({"state", "failure", "usage", "usage_before"})
"""Columns whose values may hold other types than plain ones."""
