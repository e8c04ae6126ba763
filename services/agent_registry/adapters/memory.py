"""Agents kept in memory: gone with the process and rebuilt by the sessions, but for decisions."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from itertools import islice
from typing import NamedTuple

from services.agent_registry.adapters.decisions import DecisionFile
from services.agent_registry.core.index import Index
from services.agent_registry.core.kept import Kept, Note
from services.agent_registry.ports import News
from services.kernel.clock import Clock

news_len_max = 4_096
"""Changes that wait for whoever reads them last."""


class Entry(NamedTuple):
    """Something that was told."""

    writer: MemoryStore
    saved: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()


class Shelf:
    """What is kept, for all registries of one process that share it."""

    def __init__(self) -> None:
        self.kept: dict[str, Kept] = {}
        self.index = Index()
        self.heard_s: dict[str, float] = {}
        self.entries: deque[Entry] = deque(maxlen=news_len_max)
        self.end = 0
        self.came = asyncio.Event()

    def tell(self, entry: Entry) -> None:
        """Tell all who read."""
        if any(entry[1:]):
            self.entries.append(entry)
            self.end += 1
            self.came.set()
            self.came = asyncio.Event()


class MemoryStore:
    """Keeps agents in a dictionary with an index.

    Args:
        clock: The time.
        shelf: What is kept, for several that share it.
        decisions: What operators have decided is kept here as well, and outlasts the process.
    """

    def __init__(
        self, clock: Clock, shelf: Shelf | None = None, decisions: DecisionFile | None = None
    ) -> None:
        self._clock = clock
        self._shelf = shelf or Shelf()
        self._decisions = decisions
        for each in decisions.read() if decisions is not None else ():
            self._put(each)

    async def load(self, agent_ids: Collection[str] | None = None) -> list[Kept]:
        """Return what is kept, by agent id: of some agents, or of all."""
        kept = self._shelf.kept
        wanted = kept if agent_ids is None else agent_ids
        return [kept[agent_id] for agent_id in sorted(wanted) if agent_id in kept]

    async def save(self, kept: Sequence[Kept], removed: Sequence[str]) -> dict[str, int]:
        """Keep agents as they are now, and forget others."""
        shelf = self._shelf
        refused, saved, gone = {}, [], []
        for each in kept:
            agent_id = each.facts.agent_id
            before = shelf.kept.get(agent_id)
            if before is not None and before.term > each.term:
                refused[agent_id] = before.term
                continue
            self._put(each)
            saved.append(agent_id)
        for agent_id in removed:
            shelf.heard_s.pop(agent_id, None)
            if shelf.kept.pop(agent_id, None) is not None:
                shelf.index.remove(agent_id)
                gone.append(agent_id)
        shelf.tell(Entry(self, tuple(saved), tuple(gone)))
        if self._decisions is not None:
            await self._decisions.keep([shelf.kept[each] for each in saved], removed)
        return refused

    async def publish(self, notes: Sequence[Note]) -> None:
        """Tell notes to all who read."""
        self._shelf.tell(Entry(self, notes=tuple(notes)))

    async def news(self, cursor: str, wait_s: float) -> News:
        """Return what others have told after a cursor; wait so long when there is nothing."""
        shelf = self._shelf
        if not cursor or int(cursor) < shelf.end - len(shelf.entries):
            return News(str(shelf.end), lost=True)
        if int(cursor) == shelf.end:
            await self._wait(shelf.came, wait_s)
        first = shelf.end - len(shelf.entries)
        entries = [e for e in islice(shelf.entries, int(cursor) - first, None) if e.writer != self]
        saved = dict.fromkeys(agent_id for entry in entries for agent_id in entry.saved)
        removed = dict.fromkeys(agent_id for entry in entries for agent_id in entry.removed)
        return News(
            str(shelf.end),
            saved=tuple(shelf.kept[each] for each in saved if each in shelf.kept),
            removed=tuple(each for each in removed if each not in shelf.kept),
            notes=tuple(note for entry in entries for note in entry.notes),
        )

    async def renew(self, agent_ids: Collection[str]) -> None:
        """Note that agents were heard of now."""
        self._shelf.heard_s.update(dict.fromkeys(agent_ids, self._clock.now().mono_s))

    async def leases(self) -> dict[str, float]:
        """Return how many seconds ago each agent was heard of."""
        now_s = self._clock.now().mono_s
        return {agent_id: now_s - heard_s for agent_id, heard_s in self._shelf.heard_s.items()}

    async def having(self, capabilities: Collection[str]) -> set[str]:
        """Return the ids of kept agents that have all of `capabilities`; of all for none."""
        return self._shelf.index.having(capabilities)

    async def close(self) -> None:
        """Have nothing to give back."""

    def _put(self, kept: Kept) -> None:
        self._shelf.kept[kept.facts.agent_id] = kept
        self._shelf.index.put(kept.facts.agent_id, kept.facts.capabilities)

    async def _wait(self, came: asyncio.Event, wait_s: float) -> None:
        waiting = asyncio.create_task(self._clock.sleep(wait_s))
        coming = asyncio.create_task(came.wait())
        try:
            await asyncio.wait((waiting, coming), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            coming.cancel()
            await asyncio.gather(waiting, coming, return_exceptions=True)
