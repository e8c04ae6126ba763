"""The model: means and deviations per agent and task type, derived from the learner's sums.

Derived, never stored as state: whoever has the sums has the model.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from services.ml_router.core.learner import (
    Sums,
    prior_service_ms,
    prior_service_weight,
    prior_success,
    prior_success_weight,
)

Floats = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float32]

cells_len_max = 160_000
"""Four matrices of so many 32-bit floats, 2.6 MB, leave room in a message of 4 MiB."""

# How many outcomes the level above is worth. On published outcomes of real agents, by type of task,
# 4 to 8 did equally well and 20 lost half a point.
agent_weight = 8.0
cell_weight = 4.0
service_weight = 4.0
_type_weight = 4.0
# Keeps the logits finite: nobody is certain.
_certainty_max = 0.999


@dataclass(frozen=True)
class Tuning:
    """What operators choose about a model; the rest is learned."""

    retry_penalty_factor: float = 3.0
    """Cost of a failed attempt in units of the fleet's mean service time."""
    cost_weight_ms: float = 0.0
    """What one unit of cost is worth in milliseconds of delay."""
    exploration_fraction: float = 0.02
    """Share of decisions that explore, 0 to 0.2."""


@dataclass(frozen=True)
class Model:
    """One version of what is known. Matrices have a row per agent and a column per task type."""

    version: str
    event_seq: int
    create_ms: int
    outcome_count: int
    agent_ids: tuple[str, ...]
    task_types: tuple[str, ...]
    success: Matrix
    deviation: Matrix
    service_ms: Matrix
    evidence: Matrix
    fleet_success: Matrix
    fleet_service_ms: Matrix
    default_success: float
    default_service_ms: float
    retry_penalty_ms: float
    tuning: Tuning

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """The row of each agent."""
        return {agent_id: row for row, agent_id in enumerate(self.agent_ids)}

    @cached_property
    def columns(self) -> Mapping[str, int]:
        """The column of each task type."""
        return {task_type: column for column, task_type in enumerate(self.task_types)}

    def checksum(self) -> bytes:
        """Return the SHA-256 over the matrices as they are sent, in the order of the fields."""
        digest = hashlib.sha256()
        for matrix in (self.success, self.deviation, self.service_ms, self.evidence):
            digest.update(matrix.astype("<f4", copy=False).tobytes())
        return digest.digest()


def derive(sums: Sums, *, version: str, create_ms: int, tuning: Tuning) -> Model:
    """Return the model that `sums` amount to."""
    rows = _rows(sums)
    columns = len(sums.task_types)
    successes, outcomes = sums.fleet
    default_success = (successes + prior_success_weight * prior_success) / (
        outcomes + prior_success_weight
    )
    types = {name: _floats(values) for name, values in sums.types.items()}
    fleet_success = _shrunk(types["successes"], types["outcomes"], default_success, _type_weight)
    fleet_ms, default_ms = _fleet_service(types)
    agents = {name: _floats(values)[rows, None] for name, values in sums.agents.items()}
    cells = {
        name: _floats(values).reshape(-1, sums.columns)[rows, :columns]
        for name, values in sums.cells.items()
    }
    success = _success(agents, cells, fleet_success, default_success)
    strength = cells["outcomes"] + cell_weight
    deviation = np.sqrt(success * (1.0 - success) / (strength + 1.0))
    pace = _shrunk(agents["pace"], agents["times"], 1.0, service_weight)
    service = _shrunk(cells["time_ms"], cells["times"], fleet_ms * pace, service_weight)
    return Model(
        version=version,
        event_seq=sums.event_seq,
        create_ms=create_ms,
        outcome_count=sums.outcome_count,
        agent_ids=tuple(sums.agent_ids[row] for row in rows),
        task_types=tuple(sums.task_types),
        success=_matrix(success),
        deviation=_matrix(deviation),
        service_ms=_matrix(service),
        evidence=_matrix(cells["outcomes"]),
        fleet_success=_matrix(fleet_success),
        fleet_service_ms=_matrix(fleet_ms),
        default_success=default_success,
        default_service_ms=default_ms,
        retry_penalty_ms=default_ms * tuning.retry_penalty_factor,
        tuning=tuning,
    )


def _rows(sums: Sums) -> npt.NDArray[np.intp]:
    """Return the agents that fit into a message, those seen last when not all do."""
    count = len(sums.agent_ids)
    fitting = cells_len_max // max(1, len(sums.task_types))
    if count <= fitting:
        return np.arange(count)
    seqs = np.frombuffer(sums.agent_seqs, np.int64)
    return np.sort(np.argsort(-seqs, kind="stable")[:fitting])


def _success(
    agents: dict[str, Floats], cells: dict[str, Floats], fleet: Floats, default: float
) -> Floats:
    """Return the probability of success per agent and type.

    An agent's merit on a type is how much better it did on the others than the fleet would have; as
    a shift of the logit it says what to expect of the agent before it has had the type. What it did
    on the type itself is left out of that, or it would count twice.
    """
    outcomes = np.maximum(agents["outcomes"] - cells["outcomes"], 0.0)
    # A cell fades more slowly than its part in the agent's sums: the rest may be off a little.
    achieved = np.clip(agents["successes"] - cells["successes"], 0.0, outcomes)
    expected = np.clip(agents["expected"] - cells["expected"], 0.0, outcomes)
    achieved = _shrunk(achieved, outcomes, default, agent_weight)
    expected = _shrunk(expected, outcomes, default, agent_weight)
    merit = _logit(achieved) - _logit(expected)
    prior = 1.0 / (1.0 + np.exp(-(_logit(fleet)[None, :] + merit)))
    return _shrunk(cells["successes"], cells["outcomes"], prior, cell_weight)


def _fleet_service(types: dict[str, Floats]) -> tuple[Floats, float]:
    """Return the service time per type, and the mean over what the fleet really does."""
    times = types["times"]
    total = float(times.sum())
    mean_ms = float(types["time_ms"].sum()) / total if total > 0.0 else prior_service_ms
    return _shrunk(types["time_ms"], times, mean_ms, prior_service_weight), mean_ms


def _shrunk(total: Floats, count: Floats, towards: Floats | float, weight: float) -> Floats:
    shrunk: Floats = (total + weight * towards) / (count + weight)
    return shrunk


def _logit(share: Floats) -> Floats:
    bounded = np.clip(share, 1.0 - _certainty_max, _certainty_max)
    logit: Floats = np.log(bounded / (1.0 - bounded))
    return logit


def _floats(values: array[float]) -> Floats:
    # A copy: a view would forbid the learner to grow the array while the view lives.
    return np.array(values, np.float64)


def _matrix(values: Floats) -> Matrix:
    matrix = values.astype(np.float32)
    matrix.setflags(write=False)
    return matrix
