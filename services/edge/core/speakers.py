"""Which connection speaks for which agent, and on which stream to Routing.

All agents of a bridge share a stream to Routing, where one connection's mistake must not end the
session of another, nor one connection speak for the agent of another: both are settled here.

Two processes may say that they are the same agent, and only Routing knows which of them stays. So
the second says its Hello on a lane of its own: what Routing says to either, and either to Routing,
cannot be taken for the other's, and nobody is thrown out before Routing has said so.
"""

from __future__ import annotations

from typing import NamedTuple


class Lane(NamedTuple):
    """A stream to a Routing, on which each agent has one session at most."""

    router: str
    number: int = 0
    """0 is where agents are as a rule; others are for instances that come beside one there."""


class Speaker(NamedTuple):
    """The connection that speaks for an agent on a lane."""

    connection: int
    instance_id: str
    """As the agent's Hello names it."""
    lane: Lane


class Speakers:
    """Agents with a session through this bridge, or on their way to one."""

    def __init__(self, agents_max: int) -> None:
        self._agents_max = agents_max
        self._by_agent: dict[str, tuple[Speaker, ...]] = {}
        """Hardly ever more than one."""
        self._by_connection: dict[int, set[str]] = {}

    def __len__(self) -> int:
        return len(self._by_agent)

    @property
    def full(self) -> bool:
        """Whether one more agent has no place."""
        return len(self._by_agent) >= self._agents_max

    def of(self, agent_id: str) -> tuple[Speaker, ...]:
        """Return who speaks for the agent: one, or several until Routing has said who stays."""
        return self._by_agent.get(agent_id, ())

    def at(self, lane: Lane, agent_id: str) -> Speaker | None:
        """Return who speaks for the agent on this lane."""
        for speaker in self._by_agent.get(agent_id, ()):
            if speaker.lane == lane:
                return speaker
        return None

    def by(self, connection: int, agent_id: str) -> Speaker | None:
        """Return as whom this connection speaks for the agent, None when it does not."""
        for speaker in self._by_agent.get(agent_id, ()):
            if speaker.connection == connection:
                return speaker
        return None

    def through(self, lane: Lane) -> dict[int, list[str]]:
        """Return the agents on this lane, by their connection."""
        found: dict[int, list[str]] = {}
        for agent_id, speakers in self._by_agent.items():
            for speaker in speakers:
                if speaker.lane == lane:
                    found.setdefault(speaker.connection, []).append(agent_id)
        return found

    def bind(self, agent_id: str, speaker: Speaker) -> None:
        """Let a connection speak for the agent on a lane where nobody does."""
        assert self.at(speaker.lane, agent_id) is None
        self._by_agent[agent_id] = (*self.of(agent_id), speaker)
        self._by_connection.setdefault(speaker.connection, set()).add(agent_id)

    def release(self, agent_id: str, speaker: Speaker) -> None:
        """End what a connection says for the agent: it left, or its session is over."""
        speakers = self.of(agent_id)
        if speaker not in speakers:
            return
        others = tuple(each for each in speakers if each != speaker)
        if others:
            self._by_agent[agent_id] = others
        else:
            del self._by_agent[agent_id]
        spoken = self._by_connection[speaker.connection]
        spoken.discard(agent_id)
        if not spoken:
            del self._by_connection[speaker.connection]

    def drop(self, connection: int) -> dict[Lane, list[str]]:
        """Return the agents of a connection that is gone by their lane, and forget them."""
        found: dict[Lane, list[str]] = {}
        for agent_id in sorted(self._by_connection.get(connection, ())):
            speaker = self.by(connection, agent_id)
            assert speaker is not None
            found.setdefault(speaker.lane, []).append(agent_id)
            self.release(agent_id, speaker)
        return found
