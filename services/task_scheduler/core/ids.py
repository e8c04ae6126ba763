"""Task ids: unique, ordered by time of creation, and telling their partition.

An id is `<partition>-<milliseconds>-<counter>` in 2, 12 and 10 hexadecimal digits.
"""

from __future__ import annotations

_COUNTERS = 1 << 40


class Ids:
    """Makes ids that only grow, also when the wall clock steps back or the process restarts."""

    __slots__ = ("_counter", "_head", "_ms", "_prefix")

    def __init__(self, partition: int = 0) -> None:
        assert 0 <= partition < 256
        self._prefix = f"{partition:02x}"
        self._ms = 0
        self._counter = 0
        self._head = (-1, "")
        """What the ids of a millisecond begin with, and of which."""

    def make(self, wall_ms: int) -> str:
        """Return the next id."""
        if wall_ms > self._ms:
            self._ms, self._counter = wall_ms, 0
        else:
            self._counter += 1
            if self._counter == _COUNTERS:
                self._ms, self._counter = self._ms + 1, 0
        return self.last

    @property
    def last(self) -> str:
        """The id made or seen last; going on behind it makes no id twice."""
        ms, head = self._head
        if ms != self._ms:
            head = f"{self._prefix}-{self._ms:012x}-"
            self._head = self._ms, head
        return f"{head}{self._counter:010x}"

    def seen(self, task_id: str) -> None:
        """Go on behind an id that the log holds."""
        ms, counter = created_ms(task_id), int(task_id[16:], 16)
        if (ms, counter) > (self._ms, self._counter):
            self._ms, self._counter = ms, counter


def created_ms(task_id: str) -> int:
    """Return the time that an id tells: when its task was created, in wall time."""
    return int(task_id[3:15], 16)
