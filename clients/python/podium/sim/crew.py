"""Who is in a simulated fleet: a plan on the command line becomes members of hosts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from podium.sim.host import Member
from podium.sim.profiles import PROFILES, SERVICE_TIMES, Behaviour, Worker

MIXED = "mixed"
# The three of the mixed fleet; `instant` is for benches.
_MIX = ("fast_accurate", "slow_precise", "variable_load")


@dataclass(frozen=True)
class Plan:
    """A fleet.

    Args:
        agent_count: agents of all hosts together.
        capacity: tasks each works on at once.
        profile: of all, or "mixed" for the three in turn.
        types: task types that every agent can do.
        behaviour: what goes wrong with them.
        seed: of all that is drawn.
        prefix: of the agents' ids.
    """

    agent_count: int = 100
    capacity: int = 4
    profile: str = MIXED
    types: Sequence[str] = tuple(SERVICE_TIMES)
    behaviour: Behaviour = field(default_factory=Behaviour)
    seed: int = 1
    prefix: str = "sim"

    def members(self, first: int, count: int) -> list[Member]:
        """Returns `count` of the fleet's agents from number `first` on."""
        return [self._member(number) for number in range(first, first + count)]

    def shares(self, host_count: int) -> list[tuple[int, int]]:
        """Returns for each host its first agent and how many it has."""
        share, rest = divmod(self.agent_count, host_count)
        counts = [share + (host < rest) for host in range(host_count)]
        return [(sum(counts[:host]), count) for host, count in enumerate(counts) if count]

    def _member(self, number: int) -> Member:
        name = _MIX[number % len(_MIX)] if self.profile == MIXED else self.profile
        return Member(
            agent_id=f"{self.prefix}-{number:04d}",
            capabilities=tuple(self.types),
            capacity=self.capacity,
            worker=Worker(PROFILES[name], self.seed * 1_000_003 + number, self.behaviour),
            labels={"profile": name.replace("_", "-"), "fleet": self.prefix},
        )
