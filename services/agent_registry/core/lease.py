"""How long an agent counts as here: a grace from when it was last heard of.

When most agents of one router fall silent at once, it is not they who failed: the first time their
grace is extended instead.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from services.agent_registry.core.agent import Agent
from services.agent_registry.core.breaker import cool_s_first

stall_s = 1.5
"""A look this late says that this process was held up, not that agents were silent."""
mass_share = 0.5
mass_len_min = 4
"""Agents of a router below which falling silent together means nothing."""


@dataclass(frozen=True)
class Limits:
    """Times and bounds of the registry."""

    grace_s: float = 60.0
    suspect_s: float = 30.0
    breaker_open_s: float = cool_s_first
    agents_max: int = 100_000
    forget_s: float = 24 * 3600.0
    """How long an agent that is offline is remembered."""


class Due(NamedTuple):
    """What a look at the leases found."""

    expired: list[Agent]
    suspect: list[Agent]
    extended: list[Agent]


class Leases:
    """The agents that are present, in the order in which they were last heard of."""

    def __init__(self, grace_s: float, suspect_s: float) -> None:
        self._grace_s = grace_s
        self._suspect_s = suspect_s
        self._agents: dict[str, Agent] = {}
        self._extended_until_s: dict[str, float] = {}
        self._looked_s = math.inf

    def __len__(self) -> int:
        return len(self._agents)

    def touch(self, agent: Agent, now_s: float) -> None:
        """Note that an agent was heard of."""
        agent.heard_s = now_s
        self._agents.pop(agent.agent_id, None)
        self._agents[agent.agent_id] = agent
        self._extended_until_s.pop(agent.agent_id, None)

    def remove(self, agent_id: str) -> None:
        """Forget an agent."""
        self._agents.pop(agent_id, None)
        self._extended_until_s.pop(agent_id, None)

    def due(self, now_s: float, told_s: float = math.inf, home: str = "") -> Due:
        """Return who is silent for too long, and forget those that expired.

        Args:
            now_s: The time.
            told_s: Until when agents that other replicas speak for could be heard of.
            home: The replica that asks.
        """
        others_s = min(now_s, told_s)
        late_s, self._looked_s = now_s - self._looked_s, now_s
        if late_s > stall_s:
            # What they said meanwhile may lie unread.
            for agent in self._agents.values():
                agent.heard_s = min(now_s, agent.heard_s + late_s)
        silent: list[Agent] = []
        for agent in self._agents.values():
            if agent.heard_s > now_s - self._suspect_s:
                break
            silent.append(agent)
        late = [
            agent
            for agent in silent
            if agent.heard_s <= (now_s if agent.home == home else others_s) - self._grace_s
        ]
        spared = self._spare(late, now_s) if late else []
        expired = [
            agent for agent in late if self._extended_until_s.get(agent.agent_id, 0.0) <= now_s
        ]
        for agent in expired:
            self.remove(agent.agent_id)
        gone = {agent.agent_id for agent in expired}
        suspect = [a for a in silent if not a.silent and a.agent_id not in gone]
        return Due(expired, suspect, spared)

    def _spare(self, late: list[Agent], now_s: float) -> list[Agent]:
        """Extend the grace, once, of agents that fell silent together with most of their router."""
        fresh = [agent for agent in late if agent.agent_id not in self._extended_until_s]
        if len(fresh) * 2 < mass_len_min:
            return []
        # Together means within half a grace: the later ones of the same fault count as well.
        soon_s = now_s - self._grace_s / 2
        silent: Counter[str] = Counter()
        present: Counter[str] = Counter()
        for agent in self._agents.values():
            present[agent.last_router_id] += 1
            silent[agent.last_router_id] += agent.heard_s <= soon_s
        spared = [
            agent
            for agent in fresh
            if present[agent.last_router_id] >= mass_len_min
            and silent[agent.last_router_id] > mass_share * present[agent.last_router_id]
        ]
        for agent in spared:
            self._extended_until_s[agent.agent_id] = now_s + self._grace_s
        return spared
