"""How good each candidate is for a task, with the parts the score is made of.

Two scorers, one interface: the formula, which can always be computed, and the learned expectation.
Candidates are arrays over all members of a demand, set up once for the tasks of one turn and then
kept by increments; whoever cannot take a task has a score of minus infinity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from services.routing.core.assignment import Lease
from services.routing.core.demand import MATCH_WEIGHT, Demand
from services.routing.core.fleet import Block, Fleet, FloatArray
from services.routing.core.model import Model, Vectors

STICKY_POINTS = 30.0
"""Points for the agent that ran the last task of the same key: a third of a free agent."""
STICKY_SHARE = 0.25
"""The same for the learned score, as a share of the expected delay."""


class Candidates:
    """The members of a demand, scored for one type of task."""

    __slots__ = (
        "_best",
        "_best_row",
        "_blocked",
        "_fleet",
        "_followed",
        "_seen",
        "_taken",
        "demand",
        "free_count",
        "loss_ms",
        "pace_ms",
        "points",
        "vectors",
    )

    def __init__(
        self,
        fleet: Fleet,
        demand: Demand,
        task_type: str,
        model: Model | None,
        taken: Sequence[int] = (),
    ) -> None:
        """Score them as they are now.

        Args:
            fleet: All agents.
            demand: Whose members are candidates.
            task_type: The type of the tasks.
            model: What was learned; None leaves the formula.
            taken: Rows that are given tasks from here on; it grows.
        """
        rows = demand.rows
        self._fleet = fleet
        self._taken = taken
        self._seen = self._followed = len(taken)
        self.demand = demand
        self.points = fleet.points[rows] + demand.points
        """The formula without the priority."""
        self.free_count = int(np.count_nonzero(self.points > -np.inf))
        self.vectors: Vectors | None = None
        self.pace_ms = self.loss_ms = self.points
        if model is not None:
            self.vectors = vectors = model.vectors(fleet, demand, task_type)
            # A busier agent shares itself among its tasks.
            self.pace_ms = vectors.service_ms * (1.0 + fleet.load_factor[rows])
            self.pace_ms[self.points == -np.inf] = np.inf
            self.loss_ms = vectors.loss_ms
        self._blocked: list[int] | None = None
        self._best = 0.0
        self._best_row = -1

    def catch_up(self) -> None:
        """Follow the load of agents that were given tasks."""
        taken = self._taken
        for row in taken[self._followed :]:
            self._refresh(row)
        self._followed = len(taken)

    def _refresh(self, row: int) -> None:
        place = self.demand.places.get(row)
        if place is None:
            return
        load_points = float(self._fleet.points[row])
        if load_points == -np.inf:
            # It may be told of twice, with two tasks at once or as one whose reader is behind.
            self.free_count -= bool(self.points[place] > -np.inf)
            self.points[place] = -np.inf
        else:
            self.points[place] = load_points + self.demand.match_list[place] * MATCH_WEIGHT
        if self.vectors is not None:
            pace_ms = np.inf
            if load_points > -np.inf:
                pace_ms = self.vectors.service_ms[place] * (1.0 + self._fleet.load_factor[row])
            self.pace_ms[place] = pace_ms

    def advantage(self) -> float:
        """Return how good the best candidate is, to compare tasks by.

        For the formula that is its score; for the model, how far it is better than the fleet is on
        this kind of task, so that short tasks are not preferred to long ones for being short.
        """
        taken = self._taken
        if self._seen < len(taken):
            # A task only makes an agent worse, so the best stays the best unless it was given one.
            if self._best_row in taken[self._seen :]:
                self._best_row = -1
            self._seen = len(taken)
        if self._best_row < 0:
            self.catch_up()
            if self.vectors is None:
                place = int(self.points.argmax())
                self._best = self.points.item(place)
            else:
                costs = self.pace_ms + self.loss_ms
                place = int(costs.argmin())
                self._best = sum(self.vectors.typical_ms) - costs.item(place)
            self._best_row = self.demand.row_list[place]
        return self._best

    def filtered(self, eligible_count: int) -> dict[str, int]:
        """Count the agents that are no candidates, by reason."""
        members = len(self.demand.members)
        counts: dict[str, int] = {}
        outdated = len(self.demand.outdated)
        if outdated:
            counts["version"] = outdated
        if len(self._fleet) > members + outdated:
            counts["capability"] = len(self._fleet) - members - outdated
        if members == eligible_count:
            return counts
        blocked = self._blocked
        if blocked is None:
            block = self._fleet.block[self.demand.rows]
            blocked = self._blocked = np.bincount(block, minlength=len(Block)).tolist()
        working = blocked[Block.OPEN] + blocked[Block.PAUSED]
        if working > self.free_count:
            counts["busy"] = working - self.free_count
        if self.free_count > eligible_count:
            counts["excluded"] = self.free_count - eligible_count
        if members > working:
            counts |= {name: blocked[index] for name, index in _GRAVE if blocked[index]}
        return counts


_GRAVE = tuple((block.name.lower(), int(block)) for block in Block if block > Block.PAUSED)


class Scorer(Protocol):
    """Scores the candidates for a task."""

    policy: str
    """Name of the policy, as decisions record it."""

    def score(self, candidates: Candidates, lease: Lease, sticky: int) -> FloatArray:
        """Return a score for each candidate; higher is better.

        Args:
            candidates: who could take the task.
            lease: the task.
            sticky: place of the preferred candidate; -1 without one.
        """
        ...


class Formula:
    """`capability_match * 20 + load_balance * 100 + priority_bonus`."""

    policy = "formula"

    def score(self, candidates: Candidates, lease: Lease, sticky: int) -> FloatArray:
        """Return the sum of the parts."""
        totals = candidates.points + float(lease.priority)
        if sticky >= 0:
            totals[sticky] += STICKY_POINTS
        return totals


class Learned:
    """Expected delay, with what failures and costs are worth in delay."""

    policy = "learned"

    def score(self, candidates: Candidates, lease: Lease, sticky: int) -> FloatArray:
        """Return minus the expected milliseconds to a result."""
        totals = candidates.pace_ms * -lease.size
        totals -= candidates.loss_ms
        if sticky >= 0:
            totals[sticky] *= 1.0 - STICKY_SHARE
        return totals


class Draw(NamedTuple):
    """A candidate drawn, and how likely it was."""

    place: int
    probability: float
    explored: bool
    contenders: NDArray[np.intp]
    """Places of the best candidates, in no order."""


CONTENDERS_LEN = 8
DRAWS = 16
TEMPER = 0.25
"""Factor on the deviations: a posterior 16 times as concentrated, which measured best."""
TIE = 1e-9
_NOISE_LEN = 256


class Lottery:
    """Draws candidates; its generator is given, so the same seed draws the same."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._noise: NDArray[np.float64] = np.empty((0, DRAWS, CONTENDERS_LEN))
        self._used = 0

    def among_best(self, totals: FloatArray, eligible_count: int) -> Draw:
        """Return one of the best, each as likely as the other."""
        best = (totals >= totals.max() - TIE).nonzero()[0]
        count = len(best)
        place = best[0] if count == 1 else best[int(self._rng.random() * count)]
        contenders = best_places(totals, min(CONTENDERS_LEN, eligible_count))
        return Draw(int(place), 1.0 / count, False, contenders)

    def by_sampling(
        self, totals: FloatArray, spread: FloatArray, eligible_count: int, exploration: float
    ) -> Draw:
        """Return a candidate by Thompson sampling, or now and then any one.

        Sixteen draws of the scores are made at once and one of them is used: the probability
        recorded is the share of the draws that the chosen one wins, so it is exact given the draws.
        """
        contenders = best_places(totals, min(CONTENDERS_LEN, eligible_count))
        if eligible_count == 1:
            return Draw(int(contenders[0]), 1.0, False, contenders)
        scores = self._take_noise()[:, : len(contenders)] * spread.take(contenders)
        scores += totals.take(contenders)
        winners = scores.argmax(axis=1).tolist()
        place = contenders.item(winners[0])
        explored = exploration > 0.0 and self._rng.random() < exploration
        if explored:
            everyone = (totals > -np.inf).nonzero()[0]
            place = int(everyone[int(self._rng.random() * len(everyone))])
        found = contenders.tolist()
        share = winners.count(found.index(place)) / DRAWS if place in found else 0.0
        probability = (1.0 - exploration) * share + exploration / eligible_count
        return Draw(place, probability, explored, contenders)

    def _take_noise(self) -> NDArray[np.float64]:
        # Drawn for many tasks at once: a call costs as much as a hundred numbers.
        if self._used == len(self._noise):
            shape = (_NOISE_LEN, DRAWS, CONTENDERS_LEN)
            self._noise = self._rng.standard_normal(shape) * TEMPER
            self._used = 0
        self._used += 1
        noise: NDArray[np.float64] = self._noise[self._used - 1]
        return noise


def best_places(totals: FloatArray, count: int) -> NDArray[np.intp]:
    """Return the places of the best `count` candidates, in no order."""
    if count == len(totals):
        return np.arange(count, dtype=np.intp)
    if count == 1:
        return np.array([totals.argmax()], np.intp)
    places: NDArray[np.intp] = totals.argpartition(-count)[-count:]
    return places
