"""What the score sees of tasks and agents: four features, as arrays of tasks x agents.

capability_match_score, agent_historical_performance, current_load_factor and
task_complexity_estimate; the first two per task type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from services.ml_router.core.model import Matrix, Model, cell_weight


class TaskFeatures(NamedTuple):
    """What is known of a task."""

    task_type: str
    task_complexity_estimate: float = 1.0
    """Amount of work relative to others of its type."""


class AgentFeatures(NamedTuple):
    """What is known of a candidate."""

    agent_id: str
    current_load_factor: float = 0.0
    capability_match_score: float = 1.0
    cost: float = 0.0


@dataclass(frozen=True)
class Features:
    """Arrays that broadcast to tasks x agents."""

    agent_historical_performance: Matrix
    """Learned probability of success on the task's type."""
    deviation: Matrix
    """Standard deviation of that."""
    service_ms: Matrix
    """Learned service time of a task of size 1."""
    capability_match_score: Matrix
    """Declared fit, weakened by what was seen of the agent on the type."""
    current_load_factor: Matrix
    """One row: share of each agent's capacity in use."""
    cost: Matrix
    """One row: what a task costs on each agent."""
    task_complexity_estimate: Matrix
    """One column: size of each task."""


def gather(
    model: Model, tasks: Sequence[TaskFeatures], agents: Sequence[AgentFeatures]
) -> Features:
    """Look the tasks and agents up in the model; what it does not know gets the fleet's values."""
    columns = np.array([model.columns.get(task.task_type, -1) for task in tasks], np.intp)
    rows = np.array([model.rows.get(agent.agent_id, -1) for agent in agents], np.intp)
    success, service = _fleet(model, columns)
    shape = (len(tasks), len(agents))
    success, service = np.broadcast_to(success, shape), np.broadcast_to(service, shape)
    deviation = np.sqrt(success * (1.0 - success) / np.float32(cell_weight + 1.0))
    evidence = np.zeros(shape, np.float32)
    if model.agent_ids and model.task_types:
        known = (columns >= 0)[:, None] & (rows >= 0)[None, :]
        cells = (rows[None, :], columns[:, None])
        success = np.where(known, model.success[cells], success)
        deviation = np.where(known, model.deviation[cells], deviation)
        service = np.where(known, model.service_ms[cells], service)
        evidence = np.where(known, model.evidence[cells], evidence)
    told = np.array([agent[1:] for agent in agents], np.float32).reshape(-1, 3).T
    return Features(
        agent_historical_performance=success,
        deviation=deviation,
        service_ms=service,
        capability_match_score=_match(told[1], evidence),
        current_load_factor=told[0][None, :],
        cost=told[2][None, :],
        task_complexity_estimate=np.array([task[1] for task in tasks], np.float32)[:, None],
    )


def _fleet(model: Model, columns: npt.NDArray[np.intp]) -> tuple[Matrix, Matrix]:
    success = np.append(model.fleet_success, np.float32(model.default_success))[columns]
    service = np.append(model.fleet_service_ms, np.float32(model.default_service_ms))[columns]
    return success[:, None], service[:, None]


def _match(declared: Matrix, evidence: Matrix) -> Matrix:
    """Return the declared fit as far as evidence is missing: deeds outweigh declarations."""
    doubt = np.float32(cell_weight) / (evidence + np.float32(cell_weight))
    match: Matrix = np.float32(1.0) - doubt * (np.float32(1.0) - declared[None, :])
    return match
