"""A learned model as a router uses it: checked once when it comes, then read as arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.routing.core.demand import Demand
from services.routing.core.fleet import Fleet, FloatArray

Matrix = NDArray[np.float64]

exploration_max = 0.2
# Deviation of an agent the model has never seen: wide enough to be tried, not to be preferred.
UNSEEN_DEVIATION = 0.15
SERVICE_MS_MIN = 1e-6
vectors_len_max = 4_096
evidence_min = 8.0
"""Outcomes of a type, over all agents, from which on the model decides about it."""


class Mode(IntEnum):
    """How far a model decides; numbers of the wire."""

    OFF = 1
    SHADOW = 2
    CANARY = 3
    LIVE = 4


class RawModel(NamedTuple):
    """A snapshot as it came."""

    version: str
    mode: int
    canary_fraction: float
    agent_ids: Sequence[str]
    task_types: Sequence[str]
    success_means: bytes
    success_deviations: bytes
    service_ms: bytes
    evidence: bytes
    fleet_success: Sequence[float]
    fleet_service_ms: Sequence[float]
    default_success: float
    default_service_ms: float
    retry_penalty_ms: float
    cost_weight_ms: float
    exploration_fraction: float
    push_interval_s: float
    checksum: bytes


class ModelFault(Exception):
    """A snapshot cannot be used; the message says why."""


class Vectors(NamedTuple):
    """The model for one demand and task type, one entry for each row of the demand."""

    version: int
    service_ms: FloatArray
    """Never zero: an agent that takes nothing takes infinitely long, however quick it is."""
    service_list: list[float]
    success: FloatArray
    loss_ms: FloatArray
    """Expected retries and cost, as delay."""
    loss_list: list[float]
    spread_ms: FloatArray
    """Deviation of the loss."""
    success_list: list[float]
    typical_ms: tuple[float, float]
    """Service time and loss of the fleet."""


class Model:
    """A checked snapshot.

    Raises:
        ModelFault: wrong shape, checksum or numbers.
    """

    def __init__(self, raw: RawModel) -> None:
        _check_scalars(raw)
        shape = (len(raw.agent_ids), len(raw.task_types))
        matrices = (raw.success_means, raw.success_deviations, raw.service_ms, raw.evidence)
        if raw.checksum != hashlib.sha256(b"".join(matrices)).digest():
            raise ModelFault("the checksum does not fit the matrices")
        self.version = raw.version
        self.mode = Mode(raw.mode)
        self.canary_fraction = raw.canary_fraction
        self.exploration = raw.exploration_fraction
        self.penalty_ms = raw.retry_penalty_ms
        self.cost_weight_ms = raw.cost_weight_ms
        self.push_interval_s = raw.push_interval_s
        self.rows = {agent_id: row for row, agent_id in enumerate(raw.agent_ids)}
        self.columns = {task_type: col for col, task_type in enumerate(raw.task_types)}
        self._success = _matrix(raw.success_means, shape, "success_means", 0.0, 1.0)
        self._deviation = _matrix(raw.success_deviations, shape, "success_deviations", 0.0, 1.0)
        self._service = _matrix(raw.service_ms, shape, "service_ms", 0.0, 1e12)
        outcomes = _matrix(raw.evidence, shape, "evidence", 0.0, 1e12).sum(axis=0)
        self._learned_types = frozenset(
            task_type
            for task_type, count in zip(raw.task_types, outcomes.tolist(), strict=True)
            if count >= evidence_min
        )
        self._fleet_success = _vector(raw.fleet_success, shape[1], "fleet_success", 1.0)
        self._fleet_service = _vector(raw.fleet_service_ms, shape[1], "fleet_service_ms", 1e12)
        self._default_success = raw.default_success
        self._default_service = raw.default_service_ms
        self._vectors: dict[tuple[Demand, str], Vectors] = {}

    def knows(self, task_type: str) -> bool:
        """Whether enough was learned about a type to tell agents apart.

        Until then all agents look alike to it, and the formula at least knows what they claim.
        """
        return task_type in self._learned_types

    def map_rows(self, fleet: Fleet) -> None:
        """Note which agent of the fleet is which row of the model."""
        for session in fleet.sessions:
            if session is not None:
                fleet.model_row[session.row] = self.rows.get(session.agent_id, -1)

    def vectors(self, fleet: Fleet, demand: Demand, task_type: str) -> Vectors:
        """Return what the model expects of each member of a demand."""
        key = (demand, task_type)
        known = self._vectors.get(key)
        if known is not None and known.version == demand.version:
            return known
        if len(self._vectors) >= vectors_len_max:
            self._vectors.clear()
        made = self._vectors[key] = self._make(fleet, demand, task_type)
        return made

    def _make(self, fleet: Fleet, demand: Demand, task_type: str) -> Vectors:
        rows = demand.rows
        of_model = fleet.model_row[rows]
        seen = of_model >= 0
        column = self.columns.get(task_type, -1)
        typical_success, typical_service = self._default_success, self._default_service
        if column >= 0:
            typical_success = float(self._fleet_success[column])
            typical_service = float(self._fleet_service[column])
        success = np.full(len(rows), typical_success)
        service = np.full(len(rows), typical_service)
        deviation = np.full(len(rows), UNSEEN_DEVIATION)
        if column >= 0:
            known = of_model[seen]
            success[seen] = self._success[known, column]
            service[seen] = self._service[known, column]
            deviation[seen] = self._deviation[known, column]
        costs = self.cost_weight_ms * fleet.cost[rows]
        np.maximum(service, SERVICE_MS_MIN, out=service)
        loss = (1.0 - success) * self.penalty_ms + costs
        return Vectors(
            demand.version,
            service,
            service.tolist(),
            success,
            loss,
            loss.tolist(),
            deviation * self.penalty_ms,
            success.tolist(),
            (typical_service, (1.0 - typical_success) * self.penalty_ms),
        )


def _check_scalars(raw: RawModel) -> None:
    if raw.mode not in tuple(Mode):
        raise ModelFault(f"mode {raw.mode} is not known")
    bounds = {
        "canary_fraction": (raw.canary_fraction, 1.0),
        "default_success": (raw.default_success, 1.0),
        "default_service_ms": (raw.default_service_ms, 1e12),
        "retry_penalty_ms": (raw.retry_penalty_ms, 1e12),
        "cost_weight_ms": (raw.cost_weight_ms, 1e12),
        "exploration_fraction": (raw.exploration_fraction, exploration_max),
    }
    for name, (value, high) in bounds.items():
        if not 0.0 <= value <= high * (1 + 1e-6):
            raise ModelFault(f"{name} is {value}, not from 0 to {high:g}")
    if len(set(raw.agent_ids)) != len(raw.agent_ids):
        raise ModelFault("an agent comes twice")


def _matrix(data: bytes, shape: tuple[int, int], name: str, low: float, high: float) -> Matrix:
    if len(data) != shape[0] * shape[1] * 4:
        raise ModelFault(f"{name} has {len(data)} bytes, not {shape[0]} x {shape[1]} floats")
    matrix = np.frombuffer(data, "<f4").reshape(shape).astype(np.float64)
    # NaN fails every comparison, so the test is that all are inside, not that one is outside.
    if not bool(((matrix >= low) & (matrix <= high)).all()):
        raise ModelFault(f"{name} has a number outside {low:g} to {high:g}")
    return matrix


def _vector(values: Sequence[float], length: int, name: str, high: float) -> FloatArray:
    vector = np.array(values, np.float64)
    if len(vector) != length or not bool(((vector >= 0.0) & (vector <= high)).all()):
        raise ModelFault(f"{name} is not {length} numbers from 0 to {high:g}")
    return vector
