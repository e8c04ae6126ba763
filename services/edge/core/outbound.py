"""What waits for one reader: bounded, in order, and merged where newer replaces older.

Answers and agent frames wait one by one. Updates of a watch wait once per watch: what comes while
an update still waits is merged into it, so a slow reader costs the memory of one update a watch and
sees the present, not a growing past.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sized
from typing import Generic, TypeVar

M = TypeVar("M")

queue_len_max = 256


class _Entry(Generic[M]):
    __slots__ = ("key", "message")

    def __init__(self, key: str, message: M) -> None:
        self.key = key
        self.message = message


class Outbound(Generic[M]):
    """The queue of one connection."""

    def __init__(self, len_max: int = queue_len_max) -> None:
        self._len_max = len_max
        self._entries: deque[_Entry[M]] = deque()
        self.waiting: Sized = self._entries
        """What waits; asked after each message, when a call would cost more than the answer."""
        self._updates: dict[str, _Entry[M]] = {}
        self.merged_count = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def full(self) -> bool:
        """Whether one more message has no place."""
        return len(self._entries) >= self._len_max

    def put(self, message: M) -> bool:
        """Queue a message that must arrive; False, and not queued, when there is no place."""
        if self.full:
            return False
        self._entries.append(_Entry("", message))
        return True

    def update(self, key: str, message: M, merge: Callable[[M, M], M]) -> bool:
        """Queue an update of the watch `key`, or merge it into the one that waits already."""
        waiting = self._updates.get(key)
        if waiting is not None:
            waiting.message = merge(waiting.message, message)
            self.merged_count += 1
            return True
        if self.full:
            return False
        entry = _Entry(key, message)
        self._updates[key] = entry
        self._entries.append(entry)
        return True

    def forget(self, key: str) -> None:
        """Drop the update that waits for the watch `key`: it has ended."""
        entry = self._updates.pop(key, None)
        if entry is not None:
            self._entries.remove(entry)

    def take(self) -> M | None:
        """Return the next message, or None when nothing waits."""
        if not self._entries:
            return None
        entry = self._entries.popleft()
        if entry.key:
            del self._updates[entry.key]
        return entry.message
