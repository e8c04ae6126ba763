"""Idempotency: which request ids have been seen, and what became of them.

There are two kinds. Ids that callers choose are remembered for a day. Ids that a client makes for
its own repeats of a lost call mean nothing to anybody a few minutes later, and there is one for
nearly every task: they begin with `RETRY_PREFIX` and have a table of their own, so that however
many come, none of the others is pushed out by them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from operator import itemgetter
from typing import NamedTuple

from services.task_scheduler.core.ids import created_ms

HORIZON_MS = 24 * 3600 * 1000
RETRY_PREFIX = "podium-retry:"
"""Begins ids that clients make for their own repeats."""
RETRY_HORIZON_MS = 10 * 60 * 1000
BLOCK_LEN = 2_048
"""Ids that a snapshot takes at a time."""

_blank = blake2b(digest_size=16)


def digest(data: bytes) -> bytes:
    """Return 16 bytes that stand for others."""
    # A copy is made in two thirds of the time that a new one takes.
    copy = _blank.copy()
    copy.update(data)
    return copy.digest()


class Seen(NamedTuple):
    """The first task under a request id."""

    task_id: str
    spec_hash: bytes


Row = tuple[bytes, str, bytes]
"""The digest of an id, and what `Seen` tells: an id stands for itself in snapshots."""


class Stretch(NamedTuple):
    """Ids that were added one after the other: they stay as they are."""

    rows: list[Row]
    """More may be added behind them."""
    first: int
    last: int

    def taken(self) -> list[Row]:
        """Return the ids."""
        return self.rows[self.first : self.last]


class Table:
    """Ids of one kind: those of the horizon, at most `len_max` of them: then the oldest go first.

    Args:
        len_max: How many.
        horizon_ms: For how long.
    """

    __slots__ = (
        "_blocks",
        "_gone_len",
        "_horizon_ms",
        "_len_max",
        "_rows",
        "kept_ms",
        "pushed_out",
    )

    def __init__(self, len_max: int, horizon_ms: int) -> None:
        self._len_max = len_max
        self._horizon_ms = horizon_ms
        # By a digest, since there may be a million of them.
        self._rows: dict[bytes, Row] = {}
        self._blocks: deque[list[Row]] = deque()
        """The oldest first. They only grow at the end and go as a whole, so that a snapshot need
        copy nothing."""
        self._gone_len = 0
        """Ids of the first block that are forgotten."""
        self.pushed_out = 0
        """Ids that were forgotten before their time, since the process began."""
        self.kept_ms = horizon_ms
        """For how long an id is remembered now: the age of the last one that was pushed out."""

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, key: bytes, now_ms: int) -> Seen | None:
        """Return what an id stands for, if it is remembered."""
        row = self._rows.get(key)
        return Seen(*row[1:]) if row is not None and not self._is_old(row, now_ms) else None

    def add(self, key: bytes, seen: Seen, now_ms: int) -> None:
        """Remember an id."""
        if key in self._rows:
            # It was too old to be found and is not forgotten yet.
            self._take_out(key)
        row = (key, *seen)
        self._rows[key] = row
        self._last_block().append(row)
        if len(self._rows) > self._len_max:
            self._push_out(now_ms)

    def forget(self, now_ms: int) -> None:
        """Drop what is older than the horizon."""
        while self._rows and self._is_old(self._blocks[0][self._gone_len], now_ms):
            self._drop_first()
            self.kept_ms = self._horizon_ms

    def stretches(self) -> list[Stretch]:
        """Return all ids, oldest first."""
        return [
            Stretch(rows, 0 if number else self._gone_len, len(rows))
            for number, rows in enumerate(self._blocks)
        ]

    def restore(self, rows: Iterable[Row]) -> None:
        """Add ids of another table, of which the oldest may have no room here."""
        new = [row for row in rows if row[0] not in self._rows]
        self._rows.update(zip(map(itemgetter(0), new), new, strict=True))
        while new:
            block = self._last_block()
            room = BLOCK_LEN - len(block)
            block += new[:room]
            new = new[room:]
        while len(self._rows) > self._len_max:
            self._drop_first()

    def _last_block(self) -> list[Row]:
        """Return the block with room for another id."""
        if not self._blocks or len(self._blocks[-1]) >= BLOCK_LEN:
            self._blocks.append([])
        return self._blocks[-1]

    def _drop_first(self) -> Row:
        block = self._blocks[0]
        row = block[self._gone_len]
        del self._rows[row[0]]
        self._gone_len += 1
        if self._gone_len == len(block):
            self._blocks.popleft()
            self._gone_len = 0
        return row

    def _take_out(self, key: bytes) -> None:
        """Take an id out of its place, which is among the first."""
        row = self._rows[key]
        for number, block in enumerate(self._blocks):
            there = block if number else block[self._gone_len :]
            left = [one for one in there if one is not row]
            if len(left) == len(there):
                continue
            # A snapshot may hold the block, so another one takes its place.
            self._gone_len = self._gone_len if number else 0
            if left:
                self._blocks[number] = left
            else:
                del self._blocks[number]
            return

    def _push_out(self, now_ms: int) -> None:
        age_ms = now_ms - created_ms(self._drop_first()[1])
        if age_ms <= self._horizon_ms:
            self.pushed_out += 1
            self.kept_ms = max(0, age_ms)

    def _is_old(self, row: Row, now_ms: int) -> bool:
        return now_ms - created_ms(row[1]) > self._horizon_ms


class RequestIds:
    """The ids of both kinds.

    Args:
        chosen_len_max: How many of those that callers chose.
        retries_len_max: How many of those that clients made for their own repeats.
    """

    __slots__ = ("chosen", "retries")

    def __init__(self, chosen_len_max: int, retries_len_max: int) -> None:
        self.chosen = Table(chosen_len_max, HORIZON_MS)
        self.retries = Table(retries_len_max, RETRY_HORIZON_MS)

    def __iter__(self) -> Iterator[Table]:
        yield self.chosen
        yield self.retries

    def find(self, principal: str, request_id: str, now_ms: int) -> Seen | None:
        """Return what the id stands for, if it is remembered."""
        key = _key(principal, request_id)
        if request_id.startswith(RETRY_PREFIX):
            seen = self.retries.find(key, now_ms)
            if seen is not None:
                return seen
            # A version that had one table may have written the snapshot, which tells no kinds.
        return self.chosen.find(key, now_ms)

    def add(self, principal: str, request_id: str, seen: Seen, now_ms: int) -> None:
        """Remember an id."""
        table = self.retries if request_id.startswith(RETRY_PREFIX) else self.chosen
        table.add(_key(principal, request_id), seen, now_ms)

    def forget(self, now_ms: int) -> None:
        """Drop what is older than its horizon."""
        self.chosen.forget(now_ms)
        self.retries.forget(now_ms)

    def begin(self, now_ms: int) -> None:
        """Count anew after a recovery: what the log tells was counted when it happened."""
        self.forget(now_ms)
        self.chosen.pushed_out = self.retries.pushed_out = 0


@lru_cache(512)
def _key(principal: str, request_id: str) -> bytes:
    # Looked for when a task is submitted, and added when it is taken in: soon after each other.
    return digest(f"{principal}\0{request_id}".encode())
