"""An agent as it is kept, and as the replicas of the registry tell each other of it."""

from __future__ import annotations

from typing import NamedTuple

from services.agent_registry.core.acts import Act
from services.agent_registry.core.agent import Agent, Facts
from services.agent_registry.core.breaker import Standing
from services.agent_registry.core.rivals import Rival
from services.agent_registry.core.statistics import TypeStatistics
from services.kernel.instant import Instant


class Tally(NamedTuple):
    """The statistics of one task type."""

    task_type: str
    completed: int = 0
    failed: int = 0
    weight: float = 0.0
    successes: float = 0.0
    run_weight: float = 0.0
    run_s: float = 0.0


class Kept(NamedTuple):
    """What is kept of an agent."""

    facts: Facts
    create_ms: int
    heard_ms: int
    present: bool = False
    quarantined: bool = False
    reason: str = ""
    home: str = ""
    """The replica that speaks for it: the one that its router is, or was last, connected to."""
    term: int = 0
    """Grows whenever another replica begins to speak for it; the higher one is right."""
    router_id: str = ""
    silent: bool = False
    draining: bool = False
    in_flight: int = 0
    breaker: Standing = Standing()
    tallies: tuple[Tally, ...] = ()
    since_ms: int = 0
    superseded: tuple[str, ...] = ()
    changes: tuple[tuple[str, object], ...] = ()
    """Facts that an operator has changed."""
    acts: tuple[Act, ...] = ()
    """What operators have decided, the newest on each matter."""

    @property
    def rival(self) -> Rival:
        """Its instance, to be compared with another one."""
        return Rival(self.facts.instance_id, self.since_ms, self.superseded)


class Note(NamedTuple):
    """What every replica must learn that is no state of one agent."""

    kind: str
    """drain, quarantine, release, update, failed or worked."""
    agent_id: str
    instance_id: str = ""
    reason: str = ""
    task_id: str = ""
    task_type: str = ""
    changes: tuple[tuple[str, object], ...] = ()
    at_ms: int = 0
    """When it was decided; 0 from versions that do not tell."""
    by: str = ""
    """The replica that was asked."""

    @property
    def acts(self) -> tuple[Act, ...]:
        """The decisions that it tells."""
        act = Act(self.kind, self.at_ms, self.by, self.reason, self.instance_id)
        if self.kind == "update":
            return tuple(act._replace(field=name, value=value) for name, value in self.changes)
        return (act,) if self.kind in ("drain", "quarantine", "release") else ()


def kept_of(agent: Agent, now: Instant) -> Kept:
    """Return what is kept of an agent."""
    return Kept(
        agent.facts,
        agent.create_ms,
        agent.heard_ms,
        agent.present,
        agent.quarantined,
        agent.reason,
        agent.home,
        agent.term,
        agent.router_id,
        agent.silent,
        agent.draining,
        agent.in_flight,
        agent.breaker.standing(now),
        tuple(_tally(task_type, one) for task_type, one in agent.statistics.items()),
        agent.since_ms,
        agent.superseded,
        tuple(agent.changes.items()),
        tuple(agent.acts.values()),
    )


def statistics_of(tally: Tally) -> TypeStatistics:
    """Return the statistics of a task type that were kept."""
    return TypeStatistics(
        tally.completed,
        tally.failed,
        tally.weight,
        tally.successes,
        tally.run_weight,
        tally.run_s,
    )


def _tally(task_type: str, one: TypeStatistics) -> Tally:
    return Tally(
        task_type,
        one.completed,
        one.failed,
        one.weight,
        one.successes,
        one.run_weight,
        one.run_s,
    )
