"""Which agents somebody asks for."""

from __future__ import annotations

from typing import NamedTuple

from services.agent_registry.core.agent import Agent
from services.kernel.versions import covers


class Filter(NamedTuple):
    """Selects agents; all given parts must match."""

    capabilities: tuple[str, ...] = ()
    statuses: frozenset[int] = frozenset()
    labels: tuple[tuple[str, str], ...] = ()
    idle_only: bool = False

    def matches(self, agent: Agent) -> bool:
        """Return whether an agent is selected; its capabilities are the index's matter too."""
        if self.statuses and agent.status not in self.statuses:
            return False
        if self.idle_only and not agent.takes_work:
            return False
        if self.labels and not set(self.labels) <= set(agent.facts.labels):
            return False
        wanted = frozenset(self.capabilities)
        if wanted <= agent.facts.capabilities:
            return True
        return covers(agent.facts.offers, wanted)
