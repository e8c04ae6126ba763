"""What is due when: one heap with lazy deletion.

An entry is never searched for. It carries a token; whoever takes it compares the token with the
task and drops what is out of date. The heap is rebuilt when most of it is, so ended tasks with far
deadlines do not stay in memory.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from enum import IntEnum

from services.task_scheduler.core.task import Task


class Purpose(IntEnum):
    """Why a timer was set."""

    QUEUE = 1
    """The retry or the delayed start is due; the token is `Task.next_ms`."""
    DEADLINE = 2
    """The task expires; the token is its deadline."""
    ATTEMPT = 3
    """The attempt has run long enough; the token is its lease epoch."""


Entry = tuple[float, int, Task, Purpose, int]
Check = Callable[[Task, Purpose, int], bool]

STALE_LEN_MIN = 1_024


def _when(entry: Entry) -> tuple[float, int]:
    return entry[:2]


class Timers:
    """A heap of timers on the monotonic clock."""

    __slots__ = ("_check", "_heap", "_serial", "_stale")

    def __init__(self, check: Check) -> None:
        self._heap: list[Entry] = []
        self._serial = 0
        self._stale = 0
        self._check = check

    def __len__(self) -> int:
        return len(self._heap)

    def set(self, due_s: float, task: Task, purpose: Purpose, token: int) -> None:
        """Set a timer."""
        self._serial += 1
        heapq.heappush(self._heap, (due_s, self._serial, task, purpose, token))

    def renew(self, due_s: float, task: Task, purpose: Purpose, token: int) -> None:
        """Set a timer that may be set already, or have gone off when nothing could come of it."""
        self.set(due_s, task, purpose, token)
        self.dropped()

    def dropped(self) -> None:
        """Note that an entry went out of date before it was due."""
        self._stale += 1
        if self._stale > STALE_LEN_MIN and self._stale * 2 > len(self._heap):
            kept: dict[tuple[str, Purpose, int], Entry] = {}
            for entry in sorted(self._heap, reverse=True, key=_when):
                _, _, task, purpose, token = entry
                if self._check(task, purpose, token):
                    # Of one that was renewed the earliest: what is due is not late.
                    kept[task.task_id, purpose, token] = entry
            self._heap = list(kept.values())
            heapq.heapify(self._heap)
            self._stale = 0

    def due(self, now_s: float) -> Iterator[tuple[Task, Purpose]]:
        """Take what is due and still in force, earliest first."""
        while self._heap and self._heap[0][0] <= now_s:
            _, _, task, purpose, token = heapq.heappop(self._heap)
            if self._check(task, purpose, token):
                yield task, purpose
            elif self._stale:
                self._stale -= 1

    def next_s(self) -> float | None:
        """Return when the earliest entry is due."""
        return self._heap[0][0] if self._heap else None


def in_force(task: Task, purpose: Purpose, token: int) -> bool:
    """Whether a timer still means what it was set for."""
    if purpose is Purpose.QUEUE:
        return task.next_ms == token
    if purpose is Purpose.DEADLINE:
        return task.terms.deadline_ms == token and not task.ended
    return task.lease_epoch == token
