"""How good each candidate is for a task, with the parts the score is made of.

Two scorers, one interface: the formula, which can always be computed, and the learned expectation.
Scores are arrays over all members of a demand, computed for each choice from the load that the
fleet keeps; whoever cannot take a task has a score of minus infinity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from services.routing.core.assignment import Lease
from services.routing.core.demand import MATCH_WEIGHT, Demand
from services.routing.core.fleet import Block, Fleet, FloatArray
from services.routing.core.model import Model, Vectors

if TYPE_CHECKING:
    from services.routing.core.session import Session

STICKY_POINTS = 30.0
"""Points for the agent that ran the last task of the same key: a third of a free agent."""
STICKY_SHARE = 0.25
"""The same for the learned score, as a share of the expected delay."""


class Best:
    """The best of the candidates, until its agent is given a task."""

    __slots__ = ("free_slots", "score", "session")

    def __init__(self, session: Session, score: float) -> None:
        self.session = session
        self.score = score
        self.free_slots = session.counted_free
        """As long as it has as many it is the best still: the others only become worse."""


class Candidates:
    """The members of a demand, for one type of task.

    They are made once and looked at anew in each turn; their load is read where the fleet keeps it:
    to follow every agent that gets a task in arrays of each type costs more than to add it up.
    """

    __slots__ = (
        "_best",
        "_fleet",
        "_kinds",
        "_leader",
        "_left_out",
        "_typical",
        "_working",
        "demand",
        "rows",
        "turn",
        "vectors",
        "version",
    )

    def __init__(
        self, fleet: Fleet, demand: Demand, task_type: str, model: Model | None, turn: int = 0
    ) -> None:
        """Take them as they are in this turn.

        Args:
            fleet: All agents.
            demand: Whose members are candidates.
            task_type: The type of the tasks.
            model: What was learned; None leaves the formula.
            turn: The number of the turn.
        """
        self._fleet = fleet
        self.demand = demand
        self.rows = demand.rows
        self.version = demand.version
        """That of the demand: they hold as long as it has the same members."""
        self.vectors: Vectors | None = None
        self._typical = 0.0
        if model is not None:
            self.vectors = model.vectors(fleet, demand, task_type)
            self._typical = sum(self.vectors.typical_ms)
        self._best: dict[tuple[Scorer, float], Best] = {}
        self._working = 0
        self.begin(turn)

    def begin(self, turn: int) -> None:
        """Forget what held for another turn only: in a turn agents only become busier."""
        self.turn = turn
        self._kinds = self._fleet.free_classes(self.demand.class_mask)
        self._best.clear()
        self._leader: Best | None = None
        self._left_out: dict[str, int] | None = None

    def points(self) -> FloatArray:
        """Return the formula without the priority, as the agents are now."""
        points = self._fleet.points.take(self.rows)
        points += self.demand.points
        return points

    def pace_ms(self) -> FloatArray:
        """Return what the model expects a task of size 1 to take on each as it is now."""
        assert self.vectors is not None
        pace_ms = self._fleet.slowdown.take(self.rows)
        pace_ms *= self.vectors.service_ms
        return pace_ms

    def session(self, place: int) -> Session:
        """Return a candidate."""
        session = self._fleet.sessions[self.demand.row_list[place]]
        assert session is not None
        return session

    def best(self, scorer: Scorer, size: float = 1.0) -> Best:
        """Return the best for a task of a size that nothing else is said of."""
        key = (scorer, size)
        best = self._best.get(key)
        if best is None or best.session.counted_free != best.free_slots:
            if self.free_count() <= FEW_LEN:
                free = self.free()
                scores = scorer.totals_of(self, free, size)
                score = max(scores)
                best = Best(free[scores.index(score)][1], score)
            else:
                totals = scorer.totals(self, size)
                place = int(totals.argmax())
                best = Best(self.session(place), totals.item(place))
            self._best[key] = best
        return best

    def ranked(self, scorer: Scorer, size: float, count: int) -> tuple[list[int], list[float]]:
        """Return places and scores of the best, the best first, for a task of a size.

        Of few, as there are under load, the scores are added up one by one: a call of numpy costs
        as much as ten of them.
        """
        if self.free_count() <= FEW_LEN:
            free = self.free()
            scores = scorer.totals_of(self, free, size)
            places = [place for place, _ in free]
            if len(places) > 1:
                ranked = sorted(zip(scores, places, strict=True), reverse=True)
                scores = [score for score, _ in ranked]
                places = [place for _, place in ranked]
            return places, scores
        totals = scorer.totals(self, size)
        best = best_places(totals, count)
        return best.tolist(), totals.take(best).tolist()

    def free(self) -> list[tuple[int, Session]]:
        """Return the places and sessions of those who can take a task now."""
        places = self.demand.places
        return [(places[row], each) for kind in self._kinds for row, each in kind.free.items()]

    def free_count(self) -> int:
        """Return how many can take a task now."""
        count = 0
        for kind in self._kinds:
            count += len(kind.free)
        return count

    def successes(self, places: Iterable[int]) -> list[float]:
        """Return how likely the model takes each to succeed; empty without one."""
        if self.vectors is None:
            return []
        success = self.vectors.success_list
        return [success[place] for place in places]

    def delays_ms(
        self, places: Iterable[int], sessions: Iterable[Session], size: float
    ) -> list[float]:
        """Return how long the model expects a task of a size to take on each; empty without one."""
        if self.vectors is None:
            return []
        service_ms = self.vectors.service_list
        return [
            service_ms[place] * session.slowdown * size
            for place, session in zip(places, sessions, strict=True)
        ]

    def advantage(self) -> float:
        """Return how good the best candidate is, to compare tasks by.

        For the formula that is its score; for the model, how far it is better than the fleet is on
        this kind of task, so that short tasks are not preferred to long ones for being short.
        """
        leader = self._leader
        if leader is None or leader.session.counted_free != leader.free_slots:
            scorer = FORMULA if self.vectors is None else LEARNED
            leader = self._leader = self.best(scorer)
        return self._typical + leader.score

    def filtered(self, eligible_count: int, excluded_count: int) -> dict[str, int]:
        """Count the agents that are no candidates, by reason."""
        if self._left_out is None:
            self._left_out = self._count_left_out()
        counts = dict(self._left_out)
        busy = self._working - eligible_count - excluded_count
        if busy:
            counts["busy"] = busy
        if excluded_count:
            counts["excluded"] = excluded_count
        return counts

    def _count_left_out(self) -> dict[str, int]:
        """Count those that are none whatever their load; it holds for the whole turn."""
        fleet, members, outdated = self._fleet, len(self.rows), len(self.demand.outdated)
        counts = {"version": outdated, "capability": len(fleet) - members - outdated}
        if fleet.open_count < len(fleet):
            blocked = np.bincount(fleet.block[self.rows], minlength=len(Block)).tolist()
            counts |= {name: blocked[index] for name, index in _GRAVE}
            members = blocked[Block.OPEN] + blocked[Block.PAUSED]
        self._working = members
        return {name: count for name, count in counts.items() if count}


_GRAVE = tuple((block.name.lower(), int(block)) for block in Block if block > Block.PAUSED)


class Scorer(Protocol):
    """Scores the candidates for a task; higher is better."""

    policy: str
    """Name of the policy, as decisions record it."""

    def totals(self, candidates: Candidates, size: float) -> FloatArray:
        """Return a score for each candidate, for a task of a size that nothing else is said of."""
        ...

    def totals_of(
        self, candidates: Candidates, free: list[tuple[int, Session]], size: float
    ) -> list[float]:
        """Return the same for some that can take a task, by place."""
        ...

    def score(self, candidates: Candidates, lease: Lease, sticky: int) -> FloatArray:
        """Return a score for each candidate.

        Args:
            candidates: who could take the task.
            lease: the task.
            sticky: place of the preferred candidate; -1 without one.
        """
        ...


class Formula:
    """`capability_match * 20 + load_balance * 100 + priority_bonus`."""

    policy = "formula"

    def totals(self, candidates: Candidates, size: float) -> FloatArray:
        """Return the sum of the parts without the priority, which is the same for all."""
        return candidates.points()

    def totals_of(
        self, candidates: Candidates, free: list[tuple[int, Session]], size: float
    ) -> list[float]:
        """Return the same for some."""
        matches = candidates.demand.match_list
        return [session.load_points + matches[place] * MATCH_WEIGHT for place, session in free]

    def score(self, candidates: Candidates, lease: Lease, sticky: int) -> FloatArray:
        """Return the sum of the parts."""
        totals = candidates.points()
        totals += float(lease.priority)
        if sticky >= 0:
            totals[sticky] += STICKY_POINTS
        return totals


class Learned:
    """Expected delay, with what failures and costs are worth in delay."""

    policy = "learned"

    def totals(self, candidates: Candidates, size: float) -> FloatArray:
        """Return minus the expected milliseconds to a result."""
        assert candidates.vectors is not None
        totals = candidates.pace_ms()
        totals *= -size
        totals -= candidates.vectors.loss_ms
        return totals

    def totals_of(
        self, candidates: Candidates, free: list[tuple[int, Session]], size: float
    ) -> list[float]:
        """Return the same for some."""
        assert candidates.vectors is not None
        service_ms, loss_ms = candidates.vectors.service_list, candidates.vectors.loss_list
        return [
            session.slowdown * service_ms[place] * -size - loss_ms[place] for place, session in free
        ]

    def score(self, candidates: Candidates, lease: Lease, sticky: int) -> FloatArray:
        """Return minus the expected milliseconds to a result."""
        totals = self.totals(candidates, lease.size)
        if sticky >= 0:
            totals[sticky] *= 1.0 - STICKY_SHARE
        return totals


FORMULA: Scorer = Formula()
LEARNED: Scorer = Learned()


class Draw(NamedTuple):
    """A candidate drawn, and how likely it was."""

    place: int
    probability: float
    explored: bool


CONTENDERS_LEN = 8
FEW_LEN = 8
"""Up to so many are scored one by one."""
DRAWS = 16
TEMPER = 0.25
"""Factor on the deviations: a posterior 16 times as concentrated, which measured best."""
TIE = 1e-9
_NOISE_LEN = 32
_SORTED_LEN_MAX = 256
"""Up to so many scores are sorted outright: vectorised, that is quicker than to part them first."""


class Lottery:
    """Draws candidates; its generator is given, so the same seed draws the same."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._noise: NDArray[np.float64] = np.empty((0, DRAWS, CONTENDERS_LEN))
        self._used = 0

    def among_best(self, totals: FloatArray) -> Draw:
        """Return one of the best, each as likely as the other."""
        best = (totals >= totals.max() - TIE).nonzero()[0]
        count = len(best)
        return Draw(best.item(0 if count == 1 else self._any_of(count)), 1.0 / count, False)

    def by_sampling(
        self,
        places: list[int],
        scores: list[float],
        spread_ms: FloatArray,
        everyone: Callable[[], list[int]],
        eligible_count: int,
        exploration: float,
    ) -> Draw:
        """Return a candidate by Thompson sampling, or now and then any one.

        Sixteen draws of the scores are made at once and one of them is used: the probability
        recorded is the share of the draws that the chosen one wins, so it is exact given the draws.

        Args:
            places: Where the best stand.
            scores: How good each of these is.
            spread_ms: How far the score of each candidate may be off, by place.
            everyone: Gives the places of all that can take the task.
            eligible_count: How many these are.
            exploration: How often it is any one of them.
        """
        if len(places) == 1:
            return Draw(places[0], 1.0, False)
        noisy = self._take_noise()[:, : len(places)] * spread_ms.take(places)
        noisy += scores
        winners = noisy.argmax(axis=1).tolist()
        place = places[winners[0]]
        explored = exploration > 0.0 and self._rng.random() < exploration
        if explored:
            place = everyone()[self._any_of(eligible_count)]
        share = winners.count(places.index(place)) / DRAWS if place in places else 0.0
        probability = (1.0 - exploration) * share + exploration / eligible_count
        return Draw(place, probability, explored)

    def _any_of(self, count: int) -> int:
        return int(self._rng.random() * count)

    def _take_noise(self) -> NDArray[np.float64]:
        # Drawn for many tasks at once: a call costs as much as a hundred numbers.
        if self._used == len(self._noise):
            shape = (_NOISE_LEN, DRAWS, CONTENDERS_LEN)
            self._noise = self._rng.standard_normal(shape)
            self._noise *= TEMPER
            self._used = 0
        self._used += 1
        noise: NDArray[np.float64] = self._noise[self._used - 1]
        return noise


def best_places(totals: FloatArray, count: int) -> NDArray[np.intp]:
    """Return the places of the best `count` candidates, the best first."""
    if len(totals) <= _SORTED_LEN_MAX:
        return totals.argsort()[: -count - 1 : -1]
    places = totals.argpartition(-count)[-count:]
    ranked: NDArray[np.intp] = places[totals.take(places).argsort()[::-1]]
    return ranked
