"""Dead letters in the order in which they died, each under the number of the event that ended it.

A number stays a position when its task is gone: whoever pages through dead letters while they are
requeued neither misses one nor stops early.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from services.task_scheduler.core.event import LettersDropped
from services.task_scheduler.core.task import Task

GONE_LEN_MAX = 1_024
"""Numbers of letters that are gone, kept at least until there are so many."""


class DeadLetters:
    """Tasks that have failed for good, oldest first."""

    __slots__ = ("_letters", "_seqs", "dropped", "size_bytes")

    def __init__(self) -> None:
        self._letters: dict[int, Task] = {}
        self._seqs: list[int] = []
        """In order; some of them may be gone."""
        self.size_bytes = 0
        self.dropped = 0
        """Letters that this process has forgotten for want of room."""

    def __len__(self) -> int:
        return len(self._letters)

    def __iter__(self) -> Iterator[str]:
        return (task.task_id for task in self._letters.values())

    def tasks(self) -> Iterator[Task]:
        """Return them, oldest first."""
        return iter(self._letters.values())

    def add(self, task: Task) -> None:
        """Take in a task that has failed now, by its last event."""
        self._letters[task.last_seq] = task
        self._seqs.append(task.last_seq)
        self.size_bytes += task.size_bytes

    def remove(self, task: Task) -> None:
        """Let a task go, before anything changes it."""
        del self._letters[task.last_seq]
        self.size_bytes -= task.size_bytes
        if len(self._seqs) > 2 * len(self._letters) + GONE_LEN_MAX:
            self._seqs = list(self._letters)

    def excess(self, len_max: int, bytes_max: int) -> LettersDropped | None:
        """Return which of the oldest there is no room for; None when there is room for all."""
        length, size_bytes = len(self._letters), self.size_bytes
        if length <= len_max and size_bytes <= bytes_max:
            return None
        count = through_seq = 0
        for seq, task in self._letters.items():
            if length - count <= len_max and size_bytes <= bytes_max:
                break
            count, through_seq = count + 1, seq
            size_bytes -= task.size_bytes
        return LettersDropped(through_seq, count)

    def drop(self, through_seq: int) -> list[Task]:
        """Forget those that died by an event or before it, and return them."""
        gone = []
        for seq, task in self._letters.items():
            if seq > through_seq:
                break
            gone.append(task)
        for task in gone:
            self.remove(task)
        return gone

    def before(self, seq: int) -> Iterator[Task]:
        """Return those that died before event `seq`, the last one first; all when it is 0."""
        seqs = self._seqs
        for index in range((bisect_left(seqs, seq) if seq else len(seqs)) - 1, -1, -1):
            task = self._letters.get(seqs[index])
            if task is not None:
                yield task
