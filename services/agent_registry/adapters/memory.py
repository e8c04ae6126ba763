"""Agents kept in memory: gone with the process, rebuilt by the sessions."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from services.agent_registry.core.index import Index
from services.agent_registry.ports import Kept


class MemoryStore:
    """Keeps agents in a dictionary with an index."""

    def __init__(self) -> None:
        self._kept: dict[str, Kept] = {}
        self._index = Index()

    async def load(self) -> list[Kept]:
        """Return everything that is kept, by agent id."""
        return [self._kept[agent_id] for agent_id in sorted(self._kept)]

    async def save(self, kept: Sequence[Kept], removed: Sequence[str]) -> None:
        """Keep agents as they are now, and forget others."""
        for each in kept:
            self._kept[each.facts.agent_id] = each
            self._index.put(each.facts.agent_id, each.facts.capabilities)
        for agent_id in removed:
            self._kept.pop(agent_id, None)
            self._index.remove(agent_id)

    async def having(self, capabilities: Collection[str]) -> set[str]:
        """Return the ids of kept agents that have all of `capabilities`; of all for none."""
        return self._index.having(capabilities)

    async def close(self) -> None:
        """Have nothing to give back."""
