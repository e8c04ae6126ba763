"""Counts the slots of agents for the router, while it cannot know how many are free.

Of a task that goes on although it is over a router knows nothing: it counts its slot as free, and
would fill it with a task that cannot begin. `Credit` tells how many may come.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from podium.sdk.identity import Identity
from podium.sdk.leases import Key, LeaseTable
from podium.v1.session_pb2 import AgentFrame, Credit


class Slots:
    """The slots of the agents of one session."""

    def __init__(self, leases: LeaseTable) -> None:
        # Assignments since Ready, by agent.
        self.taken: defaultdict[str, int] = defaultdict(int)
        # Agents that count, with the total that they have told; from the first task that did not
        # stop until the next Ready, since a router goes by totals from then on.
        self.counted: dict[str, int] = {}
        self._leases = leases
        self._stuck: defaultdict[str, set[Key]] = defaultdict(set)

    def begin(self, agent_id: str) -> None:
        """Begins anew, as a router does with each Ready."""
        self.taken[agent_id] = 0
        self.counted.pop(agent_id, None)
        if self._stuck[agent_id]:
            self.counted[agent_id] = -1

    def note(self, agent_id: str, key: Key, *, stuck: bool) -> None:
        """Notes that a task goes on although it is over, or has ended at last."""
        if stuck:
            self._stuck[agent_id].add(key)
            self.counted.setdefault(agent_id, -1)
        else:
            self._stuck[agent_id].discard(key)

    def credits(self, identities: Mapping[str, Identity]) -> list[AgentFrame]:
        """Returns the totals that have risen."""
        frames = []
        for agent_id, told in self.counted.items():
            if agent_id not in identities:
                continue
            busy = len(self._leases.working(agent_id) | self._stuck[agent_id])
            free = max(0, identities[agent_id].max_concurrency - busy)
            total = self.taken[agent_id] + free
            if total > told:
                self.counted[agent_id] = total
                frames.append(AgentFrame(agent_id=agent_id, credit=Credit(total=total)))
        return frames
