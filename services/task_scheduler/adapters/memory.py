"""A journal in memory: durable as long as the process, for tests and simulations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from services.task_scheduler.ports import Group, Snapshot, StorageFailed


class MemoryJournal:
    """Keeps the groups in a list, and the two newest snapshots."""

    owner_address = ""
    reachable = True

    def __init__(self) -> None:
        self.compacted_seq = 0
        self._groups: list[Group] = []
        self._snapshots: list[tuple[int, list[bytes]]] = []
        self._open = False

    async def open(self) -> None:
        """Get ready."""
        self._open = True

    async def own(self) -> None:
        """Return at once: nobody else can write."""

    async def lost(self) -> None:
        """Never return."""
        await asyncio.get_running_loop().create_future()

    async def latest(self) -> Snapshot | None:
        """Return the newest snapshot."""
        if not self._snapshots:
            return None
        seq, parts = self._snapshots[-1]
        return Snapshot(seq, _each(parts))

    async def keep(self, seq: int, parts: AsyncIterator[bytes]) -> None:
        """Keep a snapshot."""
        self._snapshots.append((seq, [part async for part in parts]))
        del self._snapshots[:-2]

    async def replay(self, after_seq: int) -> AsyncIterator[Sequence[Group]]:
        """Yield all groups behind an event."""
        groups = [group for group in self._groups if group.first_seq > after_seq]
        if groups:
            yield groups

    async def append(self, group: Group) -> None:
        """Keep a group."""
        if not self._open:
            raise StorageFailed("the journal is closed")
        last_seq = self._groups[-1].last_seq if self._groups else self.compacted_seq
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

    async def search(
        self, needle: bytes, first_seq: int, last_seq: int
    ) -> AsyncIterator[Sequence[Group]]:
        """Yield the groups within a range of events that contain `needle`."""
        yield [
            group
            for group in self._groups
            if group.last_seq >= first_seq
            and group.first_seq <= last_seq
            and needle in group.frames
        ]

    async def compact(self, before_ms: int, size_bytes_max: int) -> None:
        """Drop old groups that no snapshot needs."""
        if len(self._snapshots) < 2:
            return
        through_seq = self._snapshots[0][0]
        size_bytes = sum(len(group.frames) for group in self._groups)
        while self._groups and self._groups[0].last_seq <= through_seq:
            oldest = self._groups[0]
            if oldest.wall_ms >= before_ms and size_bytes <= size_bytes_max:
                return
            size_bytes -= len(oldest.frames)
            self.compacted_seq = oldest.last_seq
            del self._groups[0]

    async def verify(self, after_seq: int) -> int:
        """Return the last event: nothing can have changed what this process holds."""
        return max(after_seq, self._groups[-1].last_seq if self._groups else 0)

    def short_of_space(self) -> bool:
        """Return False: memory is not counted here."""
        return False

    async def close(self) -> None:
        """Let go of the log; it can be opened again."""
        self._open = False


async def _each(parts: Sequence[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
