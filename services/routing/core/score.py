"""How good each candidate is for a task, with the parts the score is made of.

Two scorers, one interface: the formula, which can always be computed, and the learned expectation.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from services.routing.core.assignment import Lease
from services.routing.core.demand import Demand
from services.routing.core.fleet import Fleet, FloatArray, IntArray
from services.routing.core.model import Model

STICKY_POINTS = 30.0
"""Points for the agent that ran the last task of the same key: a third of a free agent."""
STICKY_SHARE = 0.25
"""The same for the learned score, as a share of the expected delay."""


class Batch(NamedTuple):
    """One task and the candidates for it."""

    lease: Lease
    demand: Demand
    places: IntArray
    """Indexes into the rows of the demand."""
    rows: IntArray
    """The same as rows of the fleet."""
    sticky: int
    """Index into `rows` of the preferred agent; -1 without one."""


class Scores(NamedTuple):
    """Scores of the candidates of a batch; higher is better."""

    totals: FloatArray
    success: FloatArray | None = None
    delays_ms: FloatArray | None = None
    spread: FloatArray | None = None
    """Deviation of each total."""


class Scorer(Protocol):
    """Scores the candidates for a task."""

    policy: str
    """Name of the policy, as decisions record it."""

    def score(self, batch: Batch) -> Scores:
        """Return a score for each candidate."""
        ...

    def advantage(self, batch: Batch) -> float:
        """Return how much the best candidate of a batch has over others, to compare tasks by."""
        ...


class Formula:
    """`capability_match * 20 + load_balance * 100 + priority_bonus`."""

    policy = "formula"

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def score(self, batch: Batch) -> Scores:
        """Return the sum of the parts."""
        totals = self._fleet.points[batch.rows] + batch.demand.points[batch.places]
        totals += float(batch.lease.priority)
        if batch.sticky >= 0:
            totals[batch.sticky] += STICKY_POINTS
        return Scores(totals)

    def advantage(self, batch: Batch) -> float:
        """Return the best score."""
        return float(self.score(batch).totals.max())


class Learned:
    """Expected delay, with what failures and costs are worth in delay."""

    policy = "learned"

    def __init__(self, fleet: Fleet, model: Model) -> None:
        self._fleet = fleet
        self._model = model

    def score(self, batch: Batch) -> Scores:
        """Return minus the expected milliseconds to a result."""
        vectors = self._model.vectors(self._fleet, batch.demand, batch.lease.task_type)
        places = batch.places
        delays = vectors.service_ms[places] * batch.lease.size
        # A busier agent shares itself among its tasks.
        delays *= 1.0 + self._fleet.load_factor[batch.rows]
        totals = -delays - vectors.loss_ms[places]
        if batch.sticky >= 0:
            totals[batch.sticky] *= 1.0 - STICKY_SHARE
        return Scores(totals, vectors.success[places], delays, vectors.spread_ms[places])

    def advantage(self, batch: Batch) -> float:
        """Return how far the best candidate is better than the fleet is on this kind of task."""
        vectors = self._model.vectors(self._fleet, batch.demand, batch.lease.task_type)
        service_ms, loss_ms = vectors.typical_ms
        typical = service_ms * batch.lease.size + loss_ms
        return typical + float(self.score(batch).totals.max())


class Draw(NamedTuple):
    """A candidate drawn, and how likely it was."""

    place: int
    probability: float
    explored: bool


CONTENDERS_LEN = 8
DRAWS = 16
TEMPER = 0.25
"""Factor on the deviations: a posterior 16 times as concentrated, which measured best."""
TIE = 1e-9


def draw_best(totals: FloatArray, rng: np.random.Generator) -> Draw:
    """Return one of the best, each as likely as the other."""
    best = np.flatnonzero(totals >= totals.max() - TIE)
    count = len(best)
    place = best[0] if count == 1 else best[int(rng.random() * count)]
    return Draw(int(place), 1.0 / count, False)


def draw_learned(scores: Scores, exploration: float, rng: np.random.Generator) -> Draw:
    """Return a candidate by Thompson sampling, or now and then any one.

    Sixteen draws of the scores are made at once and one of them is used: the probability recorded
    is the share of the draws that the chosen one wins, so it is exact given the draws.
    """
    totals = scores.totals
    count = len(totals)
    assert scores.spread is not None
    if count == 1:
        return Draw(0, 1.0, False)
    contenders = np.arange(count)
    if count > CONTENDERS_LEN:
        contenders = np.argpartition(totals, -CONTENDERS_LEN)[-CONTENDERS_LEN:]
    noise = rng.standard_normal((DRAWS, len(contenders)))
    noise *= scores.spread[contenders] * TEMPER
    noise += totals[contenders]
    winners = noise.argmax(axis=1)
    place = int(contenders[winners[0]])
    explored = exploration > 0.0 and rng.random() < exploration
    if explored:
        place = int(rng.random() * count)
    share = float(np.count_nonzero(contenders[winners] == place)) / DRAWS
    return Draw(place, (1.0 - exploration) * share + exploration / count, explored)
