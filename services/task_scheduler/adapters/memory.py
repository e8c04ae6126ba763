"""A journal in memory: durable as long as the process, for tests and simulations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from services.task_scheduler.ports import Group, StorageFailed


class MemoryJournal:
    """Keeps the groups in a list."""

    def __init__(self) -> None:
        self._groups: list[Group] = []
        self._open = False

    def open(self) -> None:
        """Take the log over."""
        self._open = True

    async def replay(self) -> AsyncIterator[Sequence[Group]]:
        """Yield all groups."""
        if self._groups:
            yield list(self._groups)

    async def append(self, group: Group) -> None:
        """Keep a group."""
        if not self._open:
            raise StorageFailed("the journal is closed")
        last_seq = self._groups[-1].last_seq if self._groups else 0
        assert group.first_seq == last_seq + 1, f"group {group.first_seq} follows {last_seq}"
        self._groups.append(group)

    async def read(self, after_seq: int, size_bytes_max: int) -> Sequence[Group]:
        """Return the groups behind `after_seq`."""
        found: list[Group] = []
        size_bytes = 0
        for group in self._groups:
            if group.last_seq > after_seq and size_bytes < size_bytes_max:
                found.append(group)
                size_bytes += len(group.frames)
        return found

    async def search(self, needle: bytes, first_seq: int, last_seq: int) -> Sequence[Group]:
        """Return the groups within a range of events that contain `needle`."""
        return [
            group
            for group in self._groups
            if group.last_seq >= first_seq
            and group.first_seq <= last_seq
            and needle in group.frames
        ]

    def short_of_space(self) -> bool:
        """Return False: memory is not counted here."""
        return False

    async def close(self) -> None:
        """Let go of the log; it can be opened again."""
        self._open = False
