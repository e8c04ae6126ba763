"""Who can do something now, and how long a task would wait for the others.

Times of tasks are taken for memoryless: of c tasks that take s each on average, the first ends
after s / c, however long they have run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from services.agent_registry.core.agent import Agent, Status
from services.agent_registry.core.breaker import State


class Candidate(NamedTuple):
    """An agent that takes such work, now or once a slot is free."""

    agent: Agent
    free_slots: int
    wait_s: float | None
    """Until it has a free slot; None when nothing is known of its tasks."""
    run_s: float | None
    """What a task of the type takes; None when nothing is known."""
    success_rate: float


class Forecast(NamedTuple):
    """What a task can expect."""

    candidates: Sequence[Candidate]
    """Those first that are expected to complete it soonest."""
    ready_count: int
    free_slots: int
    wait_s: float | None
    """Until some agent takes it; None when nobody can do it, or nothing is known of who can."""


def forecast(agents: Iterable[Agent], task_type: str, ahead_count: int = 0) -> Forecast:
    """Tell what a task can expect.

    Args:
        agents: Those that can do it.
        task_type: Its type.
        ahead_count: Tasks that come first.
    """
    able = [agent for agent in agents if _works(agent)]
    fleet_s = _mean_of(able, task_type)
    candidates = [_candidate(agent, task_type, fleet_s) for agent in able]
    candidates.sort(key=_completion)
    free_slots = sum(each.free_slots for each in candidates)
    return Forecast(
        candidates,
        ready_count=sum(each.free_slots > 0 for each in candidates),
        free_slots=free_slots,
        wait_s=_wait_s(able, fleet_s, ahead_count - free_slots + 1),
    )


def _works(agent: Agent) -> bool:
    return agent.status in (Status.IDLE, Status.BUSY) and agent.breaker.state is State.CLOSED


def _mean_of(agents: Sequence[Agent], task_type: str) -> float:
    """Return what a task of the type takes those who have done some; 0 when nobody has."""
    known = [agent.statistics.known(task_type) for agent in agents]
    weight = sum(each.run_weight for each in known)
    return sum(each.run_s for each in known) / weight if weight else 0.0


def _candidate(agent: Agent, task_type: str, fleet_s: float) -> Candidate:
    free_slots = max(0, agent.facts.max_concurrency - agent.in_flight)
    numbers = agent.statistics.known(task_type)
    slot_s = agent.statistics.mean_run_s or fleet_s
    wait_s = 0.0 if free_slots else slot_s / agent.facts.max_concurrency or None
    run_s = numbers.mean_run_s or fleet_s or None
    return Candidate(agent, free_slots, wait_s, run_s, numbers.success_rate)


def _completion(candidate: Candidate) -> tuple[bool, float, str]:
    """Order by when it is done: a failure costs a whole attempt; the unknown come last."""
    unknown = candidate.wait_s is None
    run_s = (candidate.run_s or 0.0) / max(0.01, candidate.success_rate)
    return unknown, (candidate.wait_s or 0.0) + run_s, candidate.agent.agent_id


def _wait_s(agents: Sequence[Agent], fleet_s: float, releases: int) -> float | None:
    """Return the time until so many slots have become free, all of them busy meanwhile."""
    if not agents:
        return None
    if releases <= 0:
        return 0.0
    per_s = 0.0
    for agent in agents:
        slot_s = agent.statistics.mean_run_s or fleet_s
        per_s += agent.facts.max_concurrency / slot_s if slot_s else 0.0
    return releases / per_s if per_s else None
