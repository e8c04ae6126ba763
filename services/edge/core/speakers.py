"""Which connection speaks for which agent.

All agents of a bridge share one stream to Routing, where one connection's mistake must not end the
session of another, nor one connection speak for the agent of another: both are settled here.
"""

from __future__ import annotations

from typing import NamedTuple


class Speaker(NamedTuple):
    """The connection that speaks for an agent."""

    connection: int
    instance_id: str
    """As the agent's Hello names it."""
    router: str
    """The Routing with which the agent has its session."""


class Speakers:
    """Agents with a session through this bridge."""

    def __init__(self, agents_max: int) -> None:
        self._agents_max = agents_max
        self._by_agent: dict[str, Speaker] = {}
        self._by_connection: dict[int, set[str]] = {}

    def __len__(self) -> int:
        return len(self._by_agent)

    @property
    def full(self) -> bool:
        """Whether one more agent has no place."""
        return len(self._by_agent) >= self._agents_max

    def of(self, agent_id: str) -> Speaker | None:
        """Return who speaks for the agent."""
        return self._by_agent.get(agent_id)

    def through(self, router: str) -> dict[int, list[str]]:
        """Return the agents with a session at this Routing, by their connection."""
        found: dict[int, list[str]] = {}
        for agent_id, speaker in self._by_agent.items():
            if speaker.router == router:
                found.setdefault(speaker.connection, []).append(agent_id)
        return found

    def speaks(self, connection: int, agent_id: str) -> bool:
        """Tell whether the agent has said Hello on this connection."""
        speaker = self._by_agent.get(agent_id)
        return speaker is not None and speaker.connection == connection

    def bind(self, agent_id: str, speaker: Speaker) -> Speaker | None:
        """Let a connection speak for the agent; return who did before.

        The one before has lost the agent: to Routing its connection is gone, whether or not the
        bridge has noticed that yet.
        """
        before = self._by_agent.get(agent_id)
        if before is not None:
            self.release(agent_id)
        self._by_agent[agent_id] = speaker
        self._by_connection.setdefault(speaker.connection, set()).add(agent_id)
        return before

    def release(self, agent_id: str) -> None:
        """End what was said for the agent: it left, or its session is over."""
        speaker = self._by_agent.pop(agent_id, None)
        if speaker is None:
            return
        spoken = self._by_connection[speaker.connection]
        spoken.discard(agent_id)
        if not spoken:
            del self._by_connection[speaker.connection]

    def drop(self, connection: int) -> dict[str, list[str]]:
        """Return the agents of a connection that is gone by their Routing, and forget them."""
        found: dict[str, list[str]] = {}
        for agent_id in sorted(self._by_connection.pop(connection, ())):
            found.setdefault(self._by_agent.pop(agent_id).router, []).append(agent_id)
        return found
