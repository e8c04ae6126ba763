"""Capability to agents, and the classes of agents with the same set of capabilities."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TypeVar

from services.kernel.versions import plain

K = TypeVar("K", bound=Hashable)


class Index:
    """Finds the agents that have all of some capabilities without looking at the others."""

    def __init__(self) -> None:
        self._by_capability: dict[str, set[str]] = {}
        self._by_class: dict[frozenset[str], set[str]] = {}
        self._of_agent: dict[str, frozenset[str]] = {}

    def put(self, agent_id: str, capabilities: frozenset[str]) -> None:
        """Note what an agent can do now."""
        before = self._of_agent.get(agent_id)
        if before == capabilities:
            return
        self.remove(agent_id)
        self._of_agent[agent_id] = capabilities
        self._by_class.setdefault(capabilities, set()).add(agent_id)
        for name in capabilities:
            self._by_capability.setdefault(name, set()).add(agent_id)

    def remove(self, agent_id: str) -> None:
        """Forget an agent."""
        capabilities = self._of_agent.pop(agent_id, None)
        if capabilities is None:
            return
        _discard(self._by_class, capabilities, agent_id)
        for name in capabilities:
            _discard(self._by_capability, name, agent_id)

    def having(self, capabilities: Iterable[str]) -> set[str]:
        """Return the agents that have all of `capabilities`; all agents for none.

        In whichever version: that is for who knows the agents.
        """
        sets = [self._by_capability.get(plain(name), set()) for name in capabilities]
        if not sets:
            return set(self._of_agent)
        sets.sort(key=len)
        return set.intersection(*sets)

    def class_of(self, agent_id: str) -> frozenset[str]:
        """Return the agents with the same capabilities as one agent, itself among them."""
        return frozenset(self._by_class.get(self._of_agent.get(agent_id, frozenset()), ()))

    def classes(self) -> dict[frozenset[str], int]:
        """Return the sets of capabilities there are, and how many agents have each."""
        return {capabilities: len(agents) for capabilities, agents in self._by_class.items()}

    def capabilities(self) -> dict[str, frozenset[str]]:
        """Return every capability and who has it."""
        return {name: frozenset(agents) for name, agents in self._by_capability.items()}


def _discard(sets: dict[K, set[str]], key: K, agent_id: str) -> None:
    members = sets[key]
    members.discard(agent_id)
    if not members:
        del sets[key]
