"""Idempotency: which request ids have been seen, and what became of them.

There are two kinds. Ids that callers choose are remembered for a day. Ids that a client makes for
its own repeats of a lost call mean nothing to anybody a few minutes later, and there is one for
nearly every task: they begin with `RETRY_PREFIX` and have a table of their own, so that however
many come, none of the others is pushed out by them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from services.task_scheduler.core.ids import created_ms

HORIZON_MS = 24 * 3600 * 1000
RETRY_PREFIX = "podium-retry:"
"""Begins ids that clients make for their own repeats."""
RETRY_HORIZON_MS = 10 * 60 * 1000

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


class Table:
    """Ids of one kind: those of the horizon, at most `len_max` of them: then the oldest go first.

    Args:
        len_max: How many.
        horizon_ms: For how long.
    """

    __slots__ = ("_horizon_ms", "_len_max", "_order", "_seen", "kept_ms", "pushed_out")

    def __init__(self, len_max: int, horizon_ms: int) -> None:
        self._len_max = len_max
        self._horizon_ms = horizon_ms
        # By a digest, since there may be a million of them.
        self._seen: dict[bytes, Seen] = {}
        self._order: deque[bytes] = deque()
        self.pushed_out = 0
        """Ids that were forgotten before their time, since the process began."""
        self.kept_ms = horizon_ms
        """For how long an id is remembered now: the age of the last one that was pushed out."""

    def __len__(self) -> int:
        return len(self._seen)

    def find(self, key: bytes, now_ms: int) -> Seen | None:
        """Return what an id stands for, if it is remembered."""
        seen = self._seen.get(key)
        return seen if seen is not None and not self._is_old(seen, now_ms) else None

    def add(self, key: bytes, seen: Seen, now_ms: int) -> None:
        """Remember an id."""
        if key in self._seen:
            # It was too old to be found and is not forgotten yet, so it is among the first.
            self._order.remove(key)
        self._order.append(key)
        self._seen[key] = seen
        if len(self._order) > self._len_max:
            self._push_out(now_ms)

    def forget(self, now_ms: int) -> None:
        """Drop what is older than the horizon."""
        order, seen = self._order, self._seen
        while order and self._is_old(seen[order[0]], now_ms):
            del seen[order.popleft()]
            self.kept_ms = self._horizon_ms

    def items(self) -> dict[bytes, Seen]:
        """Return a copy, oldest first."""
        return dict(self._seen)

    def restore(self, items: Mapping[bytes, Seen]) -> None:
        """Add what `items` of another table gave, of which the oldest may have no room here."""
        self._order.extend(key for key in items if key not in self._seen)
        self._seen.update(items)
        while len(self._order) > self._len_max:
            del self._seen[self._order.popleft()]

    def _push_out(self, now_ms: int) -> None:
        seen = self._seen.pop(self._order.popleft())
        age_ms = now_ms - created_ms(seen.task_id)
        if age_ms <= self._horizon_ms:
            self.pushed_out += 1
            self.kept_ms = max(0, age_ms)

    def _is_old(self, seen: Seen, now_ms: int) -> bool:
        return now_ms - created_ms(seen.task_id) > self._horizon_ms


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
