"""Late binding: the best pair among the first tasks that fit and the agents that are free."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

from services.routing.core.assignment import Lease, Stage
from services.routing.core.decision import Decision, candidates_len_max
from services.routing.core.effects import SendAssign
from services.routing.core.fleet import Block, FloatArray
from services.routing.core.model import Mode, Model
from services.routing.core.score import (
    CONTENDERS_LEN,
    FORMULA,
    LEARNED,
    Candidates,
    Draw,
    Lottery,
    Scorer,
    best_places,
)
from services.routing.core.waiting import Window

if TYPE_CHECKING:
    from services.kernel.instant import Instant
    from services.routing.core.board import Board
    from services.routing.core.demand import Demand
    from services.routing.core.session import Session

window_len = 16
candidates_kept_max = 1_024
"""Combinations of demand and type whose candidates are kept from turn to turn."""
probation_s = 10.0
"""How long an agent on probation is left to its score before it is tried again."""
bypass_max = 16
"""Tasks of the same priority that may be preferred to one that waits; then it is its turn."""


class Matcher:
    """Gives waiting tasks to free agents."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._lottery = Lottery(board.rng)
        self._model: Model | None = None
        self._candidates: dict[tuple[Demand, str], Candidates] = {}
        self._turn = 0
        self.decided = 0
        self.explored = 0
        self.learned = 0

    def run(self, now: Instant) -> None:
        """Offer tasks until nothing fits any more."""
        board = self._board
        fleet = board.fleet
        model = board.model_in_use(now.mono_s)
        if model is not self._model or len(self._candidates) > candidates_kept_max:
            self._candidates.clear()
        self._model = model
        self._turn += 1
        window = Window(board.waiting, window_len, fleet.free_mask, self._of)
        while fleet.free_mask and (leases := window.leases(fleet.free_mask)):
            at = _first_pick(leases, len(self._candidates)) if len(leases) > 1 else 0
            lease, candidates = leases.pop(at)
            barred = self._barred(lease, candidates, now.mono_s) if lease.excluded else ()
            if barred is None:
                continue
            choice = self._decide(lease, candidates, barred, now.mono_s)
            if choice is None:
                continue
            for earlier, _ in leases[:at]:
                earlier.bypassed += 1
            self._offer(lease, *choice, now)

    def _of(self, lease: Lease) -> Candidates:
        """Return the candidates for a task as they are now."""
        demand = lease.demand
        assert demand is not None
        key = (demand, lease.task_type if self._model is not None else "")
        known = self._candidates.get(key)
        if known is None or known.version != demand.version:
            fleet, turn = self._board.fleet, self._turn
            known = Candidates(fleet, demand, lease.task_type, self._model, turn)
            self._candidates[key] = known
        elif known.turn != self._turn:
            known.begin(self._turn)
        return known

    def _barred(self, lease: Lease, candidates: Candidates, now_s: float) -> tuple[int, ...] | None:
        """Return the places of free agents a task should avoid; None when it must wait."""
        board = self._board
        demand = candidates.demand
        avoided = set()
        for agent_id in lease.excluded:
            session = board.sessions.get(agent_id)
            place = demand.places.get(session.row) if session is not None else None
            if place is not None:
                avoided.add(place)
        working = np.count_nonzero(board.fleet.block[demand.rows] == Block.OPEN)
        avoided_working = sum(
            bool(board.fleet.block[demand.rows[place]] == Block.OPEN) for place in avoided
        )
        if working == avoided_working:
            # The only agents are those that failed or declined it. They get it again after a
            # pause: one that always declines would else be asked thousands of times a second.
            return () if now_s - lease.granted_s >= board.limits.pause_s else None
        return tuple(place for place in avoided if candidates.session(place).counted_free)

    def _decide(
        self, lease: Lease, candidates: Candidates, barred: tuple[int, ...], now_s: float
    ) -> tuple[Decision, Session] | None:
        """Return the record of the choice and the chosen agent; None when nobody can take it."""
        eligible = candidates.free_count() - len(barred)
        if not eligible:
            return None
        model = self._model
        sticky = self._sticky(lease, candidates) if lease.sticky_agent_id else -1
        learns = model is not None and _decides(model, lease)
        shadow = FORMULA if learns else LEARNED
        tried = self._on_trial(candidates, barred, now_s) if self._board.on_probation else -1
        draw, top, scores = self._draw(lease, candidates, sticky, barred, tried, learns=learns)
        self.decided += 1
        session = candidates.session(draw.place)
        demand = candidates.demand
        others = [candidates.session(place) for place in top]
        decision = Decision(
            agent_id=session.agent_id,
            policy=(LEARNED if learns else FORMULA).policy,
            model_version=model.version if model is not None else "",
            probability=draw.probability,
            eligible_count=eligible,
            filtered=candidates.filtered(eligible, len(barred)),
            candidates=[other.agent_id for other in others],
            scores=scores,
            matches=[demand.match_list[place] for place in top],
            balances=[other.counted_free / other.max_concurrency for other in others],
            priority_bonus=float(lease.priority),
            successes=candidates.successes(top),
            delays_ms=candidates.delays_ms(top, others, lease.size),
            shadow_agent_id=_rival(shadow, lease, candidates, sticky, barred),
            explored=draw.explored,
        )
        return decision, session

    def _draw(
        self,
        lease: Lease,
        candidates: Candidates,
        sticky: int,
        barred: tuple[int, ...],
        tried: int,
        *,
        learns: bool,
    ) -> tuple[Draw, list[int], list[float]]:
        """Draw a candidate; also return the places and scores that are recorded of it."""
        totals = None
        if learns and sticky < 0 and not barred:
            places, scores = candidates.ranked(LEARNED, lease.size, CONTENDERS_LEN)
        else:
            totals = _scores(LEARNED if learns else FORMULA, lease, candidates, sticky, barred)
            best = best_places(totals, min(CONTENDERS_LEN, candidates.free_count() - len(barred)))
            places, scores = best.tolist(), totals.take(best).tolist()
        if tried >= 0:
            draw = Draw(tried, 1.0, True)
        elif learns:
            draw = self._sampled(candidates, places, scores, barred)
        else:
            assert totals is not None
            draw = self._lottery.among_best(totals)
        top, scores = places[:candidates_len_max], scores[:candidates_len_max]
        if draw.place not in top:
            # What was chosen is always told, also when it was not among the best.
            totals = LEARNED.totals(candidates, lease.size) if totals is None else totals
            top[-1], scores[-1] = draw.place, totals.item(draw.place)
        return draw, top, scores

    def _sampled(
        self,
        candidates: Candidates,
        places: list[int],
        scores: list[float],
        barred: tuple[int, ...],
    ) -> Draw:
        model = self._model
        assert model is not None and candidates.vectors is not None
        draw = self._lottery.by_sampling(
            places,
            scores,
            candidates.vectors.spread_ms,
            lambda: [place for place, _ in candidates.free() if place not in barred],
            candidates.free_count() - len(barred),
            model.exploration,
        )
        self.learned += 1
        self.explored += draw.explored
        return draw

    def _on_trial(self, candidates: Candidates, barred: tuple[int, ...], now_s: float) -> int:
        """Return the place of an agent that is due for its one try, or -1.

        Its score alone would hardly ever give it the task that could clear it.
        """
        for session, due_s in self._board.on_probation.items():
            place = candidates.demand.places.get(session.row, -1)
            if due_s <= now_s and place >= 0 and place not in barred:
                if session.counted_free:
                    self._board.on_probation[session] = now_s + probation_s
                    return place
        return -1

    def _sticky(self, lease: Lease, candidates: Candidates) -> int:
        """Return the place of the agent that the task prefers, if it is free."""
        session = self._board.sessions.get(lease.sticky_agent_id)
        place = candidates.demand.places.get(session.row, -1) if session is not None else -1
        return place if session is not None and session.counted_free else -1

    def _offer(self, lease: Lease, decision: Decision, session: Session, now: Instant) -> None:
        board = self._board
        board.placed(lease)
        lease.stage = Stage.OFFERED
        lease.offered_s = now.mono_s
        lease.decision = decision
        if lease.timeout_ms:
            lease.deadline_ms = now.wall_ms + lease.timeout_ms
        session.assigned_total += 1
        board.bind(lease, session)
        board.leases.offered.append((now.mono_s, lease.key))
        board.effects.append(SendAssign(session, lease, lease.body))
        stream = session.stream
        assert stream is not None
        # Where its reader is behind, the rest of this turn goes to the agents of other streams.
        board.queued(stream, lease.size_bytes)


def _scores(
    scorer: Scorer, lease: Lease, candidates: Candidates, sticky: int, barred: tuple[int, ...]
) -> FloatArray:
    totals = scorer.score(candidates, lease, sticky)
    if barred:
        totals[list(barred)] = -np.inf
    return totals


def _rival(
    scorer: Scorer, lease: Lease, candidates: Candidates, sticky: int, barred: tuple[int, ...]
) -> str:
    """Return whom the policy that did not decide would have chosen; empty without a model."""
    if candidates.vectors is None:
        return ""
    if sticky < 0 and not barred:
        return candidates.best(scorer, lease.size).session.agent_id
    rivals = _scores(scorer, lease, candidates, sticky, barred)
    return candidates.session(int(rivals.argmax())).agent_id


def _first_pick(leases: list[tuple[Lease, Candidates]], sorts: int) -> int:
    """Return the place of the task whose best candidate is the best of all.

    Args:
        leases: The tasks to choose from.
        sorts: How many different candidates they have at most.
    """
    first, its = leases[0]
    if first.bypassed >= bypass_max:
        return 0
    # Tasks with the same candidates are taken in order, so the first of each stands for them;
    # and what is more urgent is never compared with what is less.
    best, most = 0, its.advantage()
    seen = {its}
    for at, (lease, candidates) in enumerate(leases):
        if candidates in seen:
            if len(seen) == sorts:
                break
            continue
        if lease.priority != first.priority:
            break
        seen.add(candidates)
        if (advantage := candidates.advantage()) > most:
            best, most = at, advantage
    return best


def _decides(model: Model, lease: Lease) -> bool:
    """Whether the model decides for a task; the same task always falls on the same side."""
    if not model.knows(lease.task_type):
        return False
    if model.mode is Mode.CANARY:
        return zlib.crc32(lease.task_id.encode()) / 2**32 < model.canary_fraction
    return model.mode is Mode.LIVE
