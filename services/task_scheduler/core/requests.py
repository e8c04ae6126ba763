"""Idempotency: which request ids have been seen, and what became of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

HORIZON_MS = 24 * 3600 * 1000


class Seen(NamedTuple):
    """The first task under a request id."""

    task_id: str
    spec_hash: bytes
    wall_ms: int


class RequestIds:
    """Request ids of the last 24 hours, at most `len_max` of them: then the oldest go first."""

    __slots__ = ("_len_max", "_order", "_seen")

    def __init__(self, len_max: int) -> None:
        self._len_max = len_max
        self._seen: dict[str, Seen] = {}
        self._order: deque[str] = deque()

    def __len__(self) -> int:
        return len(self._seen)

    def find(self, principal: str, request_id: str, now_ms: int) -> Seen | None:
        """Return what the id stands for, if it is remembered."""
        seen = self._seen.get(f"{principal}\0{request_id}")
        return seen if seen is not None and now_ms - seen.wall_ms <= HORIZON_MS else None

    def add(self, principal: str, request_id: str, seen: Seen) -> None:
        """Remember an id."""
        key = f"{principal}\0{request_id}"
        if key not in self._seen:
            self._order.append(key)
        self._seen[key] = seen
        while len(self._order) > self._len_max:
            del self._seen[self._order.popleft()]

    def forget(self, now_ms: int) -> None:
        """Drop what is older than the horizon."""
        while self._order:
            oldest = self._seen[self._order[0]]
            if now_ms - oldest.wall_ms <= HORIZON_MS:
                return
            del self._seen[self._order.popleft()]

    def items(self) -> dict[str, Seen]:
        """Return a copy of the table, oldest first."""
        return dict(self._seen)

    def restore(self, items: Mapping[str, Seen]) -> None:
        """Add what `items` of another table gave."""
        self._seen.update(items)
        self._order.extend(items)
