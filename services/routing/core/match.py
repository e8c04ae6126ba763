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
    Candidates,
    Draw,
    Formula,
    Learned,
    Lottery,
    Scorer,
    best_places,
)
from services.routing.core.waiting import Window

if TYPE_CHECKING:
    from services.kernel.instant import Instant
    from services.routing.core.board import Board
    from services.routing.core.demand import Demand

window_len = 16
probation_s = 10.0
"""How long an agent on probation is left to its score before it is tried again."""
bypass_max = 16
"""Tasks of the same priority that may be preferred to one that waits; then it is its turn."""


class Matcher:
    """Gives waiting tasks to free agents."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._lottery = Lottery(board.rng)
        self._formula: Scorer = Formula()
        self._learned: Scorer = Learned()
        self._model: Model | None = None
        self._candidates: dict[tuple[Demand, str], Candidates] = {}
        self._taken: list[int] = []
        """Rows that were given a task in this turn."""
        self.decided = 0
        self.explored = 0
        self.learned = 0

    def run(self, now: Instant) -> None:
        """Offer tasks until nothing fits any more."""
        board = self._board
        fleet = board.fleet
        self._model = board.model_in_use(now.mono_s)
        self._candidates = {}
        self._taken = []
        window = Window(board.waiting, window_len, fleet.free_mask, self._of)
        while fleet.free_mask and (leases := window.leases(fleet.free_mask)):
            at = _first_pick(leases) if len(leases) > 1 else 0
            lease, candidates = leases.pop(at)
            candidates.catch_up()
            barred = self._barred(lease, candidates, now.mono_s) if lease.excluded else ()
            if barred is None or candidates.free_count <= len(barred):
                continue
            for earlier, _ in leases[:at]:
                earlier.bypassed += 1
            decision, row = self._decide(lease, candidates, barred, now.mono_s)
            self._taken.append(row)
            self._offer(lease, decision, row, now)

    def _of(self, lease: Lease) -> Candidates:
        """Return the candidates for a task as they are now."""
        demand = lease.demand
        assert demand is not None
        key = (demand, lease.task_type if self._model is not None else "")
        known = self._candidates.get(key)
        if known is None:
            known = Candidates(self._board.fleet, demand, lease.task_type, self._model, self._taken)
            self._candidates[key] = known
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
        return tuple(place for place in avoided if candidates.points[place] > -np.inf)

    def _decide(
        self, lease: Lease, candidates: Candidates, barred: tuple[int, ...], now_s: float
    ) -> tuple[Decision, int]:
        """Return the record of the choice and the row of the chosen agent."""
        model = self._model
        sticky = self._sticky(lease, candidates) if lease.sticky_agent_id else -1
        eligible = candidates.free_count - len(barred)
        learns = model is not None and _decides(model, lease)
        chosen, shadow = self._formula, self._learned
        if learns:
            chosen, shadow = shadow, chosen
        totals = chosen.score(candidates, lease, sticky)
        if barred:
            totals[list(barred)] = -np.inf
        tried = self._on_trial(candidates, barred, now_s) if self._board.on_probation else -1
        if tried >= 0:
            draw = Draw(tried, 1.0, True, best_places(totals, min(candidates_len_max, eligible)))
        elif learns:
            assert model is not None and candidates.vectors is not None
            spread = candidates.vectors.spread_ms
            draw = self._lottery.by_sampling(totals, spread, eligible, model.exploration)
            self.learned += 1
            self.explored += draw.explored
        else:
            draw = self._lottery.among_best(totals, eligible)
        other = ""
        if model is not None:
            rivals = shadow.score(candidates, lease, sticky)
            if barred:
                rivals[list(barred)] = -np.inf
            other = self._agent_id(candidates, int(rivals.argmax()))
        self.decided += 1
        decision = self._record(lease, candidates, totals, draw, chosen.policy, other, eligible)
        return decision, candidates.demand.row_list[draw.place]

    def _on_trial(self, candidates: Candidates, barred: tuple[int, ...], now_s: float) -> int:
        """Return the place of an agent that is due for its one try, or -1.

        Its score alone would hardly ever give it the task that could clear it.
        """
        for session, due_s in self._board.on_probation.items():
            place = candidates.demand.places.get(session.row, -1)
            if due_s <= now_s and place >= 0 and place not in barred:
                if candidates.points[place] > -np.inf:
                    self._board.on_probation[session] = now_s + probation_s
                    return place
        return -1

    def _sticky(self, lease: Lease, candidates: Candidates) -> int:
        """Return the place of the agent that the task prefers, if it is free."""
        session = self._board.sessions.get(lease.sticky_agent_id)
        place = candidates.demand.places.get(session.row, -1) if session is not None else -1
        return place if place >= 0 and candidates.points[place] > -np.inf else -1

    def _agent_id(self, candidates: Candidates, place: int) -> str:
        session = self._board.fleet.sessions[candidates.demand.row_list[place]]
        assert session is not None
        return session.agent_id

    def _record(
        self,
        lease: Lease,
        candidates: Candidates,
        totals: FloatArray,
        draw: Draw,
        policy: str,
        shadow: str,
        eligible: int,
    ) -> Decision:
        demand = candidates.demand
        found = draw.contenders
        ranked = sorted(zip(totals.take(found).tolist(), found.tolist(), strict=True))
        scores, top = map(list, zip(*ranked[: -candidates_len_max - 1 : -1], strict=True))
        if draw.place not in top:
            # What was chosen is always told, also when it was not among the best.
            top[-1], scores[-1] = draw.place, totals.item(draw.place)
        every = self._board.fleet.sessions
        rows = demand.row_list
        sessions = [session for place in top if (session := every[rows[place]])]
        successes: list[float] = []
        delays: list[float] = []
        if candidates.vectors is not None:
            success = candidates.vectors.success_list
            successes = [success[place] for place in top]
            delays = [candidates.pace_ms.item(place) * lease.size for place in top]
        return Decision(
            agent_id=self._agent_id(candidates, draw.place),
            policy=policy,
            model_version=self._model.version if self._model is not None else "",
            probability=draw.probability,
            eligible_count=eligible,
            filtered=candidates.filtered(eligible),
            candidates=[session.agent_id for session in sessions],
            scores=scores,
            matches=[demand.match_list[place] for place in top],
            balances=[session.counted_free / session.max_concurrency for session in sessions],
            priority_bonus=float(lease.priority),
            successes=successes,
            delays_ms=delays,
            shadow_agent_id=shadow,
            explored=draw.explored,
        )

    def _offer(self, lease: Lease, decision: Decision, row: int, now: Instant) -> None:
        board = self._board
        session = board.fleet.sessions[row]
        assert session is not None
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
        stopped = board.queued(stream, lease.size_bytes)
        # Their reader is behind: the rest of this turn goes to others.
        self._taken.extend(other.row for other in stopped if other.row != row)


def _first_pick(leases: list[tuple[Lease, Candidates]]) -> int:
    """Return the place of the task whose best candidate is the best of all."""
    first, its = leases[0]
    if first.bypassed >= bypass_max:
        return 0
    # Tasks with the same candidates are taken in order, so the first of each stands for them;
    # and what is more urgent is never compared with what is less.
    best, most = 0, its.advantage()
    seen = {its}
    for at, (lease, candidates) in enumerate(leases):
        if lease.priority != first.priority:
            break
        if candidates not in seen:
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
