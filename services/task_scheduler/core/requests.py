"""Idempotency: which request ids have been seen, and what became of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from hashlib import blake2b
from typing import NamedTuple

from services.task_scheduler.core.ids import created_ms

HORIZON_MS = 24 * 3600 * 1000


class Seen(NamedTuple):
    """The first task under a request id."""

    task_id: str
    spec_hash: bytes


class RequestIds:
    """Request ids of the last 24 hours, at most `len_max` of them: then the oldest go first."""

    __slots__ = ("_len_max", "_order", "_seen")

    def __init__(self, len_max: int) -> None:
        self._len_max = len_max
        # By a digest, since there may be a million of them.
        self._seen: dict[bytes, Seen] = {}
        self._order: deque[bytes] = deque()

    def __len__(self) -> int:
        return len(self._seen)

    def find(self, principal: str, request_id: str, now_ms: int) -> Seen | None:
        """Return what the id stands for, if it is remembered."""
        seen = self._seen.get(_key(principal, request_id))
        return seen if seen is not None and not _is_old(seen, now_ms) else None

    def add(self, principal: str, request_id: str, seen: Seen) -> None:
        """Remember an id."""
        key = _key(principal, request_id)
        if key not in self._seen:
            self._order.append(key)
        self._seen[key] = seen
        while len(self._order) > self._len_max:
            del self._seen[self._order.popleft()]

    def forget(self, now_ms: int) -> None:
        """Drop what is older than the horizon."""
        while self._order and _is_old(self._seen[self._order[0]], now_ms):
            del self._seen[self._order.popleft()]

    def items(self) -> dict[bytes, Seen]:
        """Return a copy of the table, oldest first."""
        return dict(self._seen)

    def restore(self, items: Mapping[bytes, Seen]) -> None:
        """Add what `items` of another table gave."""
        self._seen.update(items)
        self._order.extend(items)


def _key(principal: str, request_id: str) -> bytes:
    return blake2b(f"{principal}\0{request_id}".encode(), digest_size=16).digest()


def _is_old(seen: Seen, now_ms: int) -> bool:
    return now_ms - created_ms(seen.task_id) > HORIZON_MS
