"""An agent as the registry knows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from services.agent_registry.core.acts import Act
from services.agent_registry.core.breaker import Breaker, State
from services.agent_registry.core.rivals import Rival, followed, stays
from services.agent_registry.core.statistics import Statistics
from services.kernel.instant import Instant
from services.kernel.versions import offer


class Status(IntEnum):
    """Where an agent stands; numbers of the wire."""

    IDLE = 1
    BUSY = 2
    DRAINING = 3
    QUARANTINED = 4
    SUSPECT = 5
    OFFLINE = 6


class Skill(NamedTuple):
    """One thing an agent can do."""

    name: str
    proficiency: float
    version: str


class Facts(NamedTuple):
    """What an agent says of itself."""

    agent_id: str
    instance_id: str = ""
    name: str = ""
    skills: tuple[Skill, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    max_concurrency: int = 1
    cost_per_task: float = 0.0
    cost_per_kilotoken: float = 0.0
    build_id: str = ""
    transport: str = ""

    @property
    def capabilities(self) -> frozenset[str]:
        """Names of what it can do."""
        return frozenset(skill.name for skill in self.skills)

    @property
    def offers(self) -> frozenset[str]:
        """The same, and what it has in a version, as `name@2.1`."""
        versions = (offer(skill.name, skill.version) for skill in self.skills)
        return self.capabilities | frozenset(filter(None, versions))


@dataclass(eq=False, slots=True)
class Agent:
    """One agent: what it says, and how it has been."""

    facts: Facts
    create_ms: int
    heard_ms: int
    heard_s: float
    router_id: str = ""
    """Router that has its session; empty without one."""
    last_router_id: str = ""
    """The router that had its session last."""
    present: bool = False
    """Whether it is within the grace: connected, or gone for less than that."""
    silent: bool = False
    """Whether it is connected and says nothing."""
    draining: bool = False
    quarantined: bool = False
    reason: str = ""
    in_flight: int = 0
    home: str = ""
    """The replica of the registry that speaks for it."""
    term: int = 0
    """Grows whenever another replica begins to speak for it."""
    since_ms: int = 0
    """When the session of its instance began, on whichever router."""
    superseded: tuple[str, ...] = ()
    """Instances that this one has followed."""
    changes: dict[str, object] = field(default_factory=dict)
    """Facts that an operator has changed; they hold whatever the agent says of itself."""
    acts: dict[str, Act] = field(default_factory=dict)
    """What operators have decided of it, by matter."""
    acts_kept: dict[str, Act] = field(default_factory=dict)
    """Those of them that are in what is kept of it, as far as this replica knows."""
    breaker: Breaker = field(default_factory=Breaker)
    statistics: Statistics = field(default_factory=Statistics)

    @property
    def agent_id(self) -> str:
        """Its id."""
        return self.facts.agent_id

    @property
    def rival(self) -> Rival:
        """Its instance, to be compared with another one."""
        return Rival(self.facts.instance_id, self.since_ms, self.superseded)

    @property
    def status(self) -> Status:
        """Where it stands; what keeps it from work before what it does."""
        if not self.present:
            return Status.OFFLINE
        if not self.router_id or self.silent:
            return Status.SUSPECT
        if self.quarantined:
            return Status.QUARANTINED
        if self.draining:
            return Status.DRAINING
        return Status.BUSY if self.in_flight else Status.IDLE

    @property
    def takes_work(self) -> bool:
        """Whether it could take a task now."""
        return (
            self.status in (Status.IDLE, Status.BUSY)
            and self.breaker.state is State.CLOSED
            and self.in_flight < self.facts.max_concurrency
        )

    @property
    def is_unsaid(self) -> bool:
        """Whether something was decided that is not in what is kept of it."""
        return any(act.outdoes(self.acts_kept.get(each)) for each, act in self.acts.items())

    @property
    def is_special(self) -> bool:
        """Whether its router must know something about it from the beginning."""
        kept_back = self.breaker.state is not State.CLOSED or self.quarantined or self.draining
        return kept_back or bool(self.superseded)

    def come(self, router_id: str, replica_id: str, now: Instant) -> None:
        """Be there, with a session on a router that is connected to a replica."""
        self.home, self.term = replica_id, max(self.term + 1, now.wall_ms)
        self.router_id = self.last_router_id = router_id
        self.present, self.silent = True, False

    def outlive(self, other: Rival, router_id: str) -> bool:
        """Supersede another instance if it is this one that stays; return whether it is.

        Args:
            other: An instance with a session.
            router_id: The router of that session; of those that it has itself, its word counts.
        """
        if not self.present or self.router_id == router_id:
            return False
        if self.router_id:
            wins = stays(self.rival, other)
        else:
            wins = other.instance_id in self.superseded
        if wins:
            self.superseded = followed(self.superseded, other.instance_id, self.facts.instance_id)
        return wins

    def give_way(self, newer: Rival) -> None:
        """Let another instance follow."""
        self.superseded = followed(self.superseded, self.facts.instance_id, newer.instance_id)
        self.since_ms = newer.since_ms
        # A drain is of a session; another process of the agent begins anew.
        self.draining = False
        self.reason = self.reason if self.quarantined else ""


class Told(NamedTuple):
    """What the router of an agent was last told about it."""

    breaker: State = State.CLOSED
    draining: bool = False
    quarantined: bool = False
    reason: str = ""


class Directive(NamedTuple):
    """What a router must know about one agent."""

    agent_id: str
    breaker: State
    draining: bool
    quarantined: bool
    failure_rate: float
    instance_id: str = ""
    """The instance that is right now."""
    superseded: tuple[str, ...] = ()
    """Instances whose sessions must end."""
    reason: str = ""
    """Why it is quarantined or drains."""


def directive_of(agent: Agent, now_s: float) -> Directive:
    """Return what the router of an agent must know about it."""
    return Directive(
        agent.agent_id,
        agent.breaker.state,
        agent.draining,
        agent.quarantined,
        agent.breaker.failure_rate(now_s),
        agent.facts.instance_id,
        agent.superseded,
        agent.reason,
    )
