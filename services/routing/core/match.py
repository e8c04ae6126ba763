"""Late binding: the best pair among the first tasks that fit and the agents that are free."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

from services.routing.core.assignment import Lease, Stage
from services.routing.core.decision import Decision, candidates_len_max
from services.routing.core.demand import Demand
from services.routing.core.effects import SendAssign
from services.routing.core.fleet import LOAD_WEIGHT, Block, BoolArray
from services.routing.core.model import Mode, Model
from services.routing.core.score import (
    Batch,
    Draw,
    Formula,
    Learned,
    Scorer,
    Scores,
    draw_best,
    draw_learned,
)

if TYPE_CHECKING:
    from services.kernel.instant import Instant
    from services.routing.core.board import Board

window_len = 16
bypass_max = 16
"""Tasks of the same priority that may be preferred to one that waits; then it is its turn."""


class Matcher:
    """Gives waiting tasks to free agents."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._formula = Formula(board.fleet)
        self.decided = 0
        self.explored = 0
        self.learned = 0

    def run(self, now: Instant) -> None:
        """Offer tasks until nothing fits any more."""
        board = self._board
        fleet = board.fleet
        model = board.model_in_use(now.mono_s)
        skipped: set[Lease] = set()
        while len(board.waiting) > len(skipped) and fleet.free_mask:
            window = board.waiting.window(window_len, fleet.free_mask, skipped)
            if not window:
                return
            lease = self._task(window, model, now)
            batch = self._batch(lease, now.mono_s)
            if batch is None:
                skipped.add(lease)
                continue
            for earlier in window:
                if earlier is lease:
                    break
                earlier.bypassed += 1
            self._offer(lease, self._decide(batch, model), now)

    def _task(self, window: list[Lease], model: Model | None, now: Instant) -> Lease:
        """Return the task of the window whose best candidate is the best of all."""
        first = window[0]
        if len(window) == 1 or first.bypassed >= bypass_max:
            return first
        # Tasks of one group differ by size alone, so the first of each stands for it; and what is
        # more urgent is never compared with what is less.
        groups: dict[tuple[Demand | None, str], Lease] = {}
        for lease in window:
            if lease.priority != first.priority:
                break
            groups.setdefault((lease.demand, lease.task_type if model else ""), lease)
        if len(groups) == 1:
            return first
        scorer: Scorer = Learned(self._board.fleet, model) if model else self._formula
        best, most = first, -np.inf
        for lease in groups.values():
            batch = self._batch(lease, now.mono_s)
            if batch is not None and (advantage := scorer.advantage(batch)) > most:
                best, most = lease, advantage
        return best

    def _batch(self, lease: Lease, now_s: float) -> Batch | None:
        """Return the candidates that can take a task now, or None."""
        fleet = self._board.fleet
        demand = lease.demand
        assert demand is not None
        rows = demand.rows
        free = fleet.points[rows] > -np.inf
        if lease.excluded:
            free = self._without_excluded(lease, free, now_s)
        places = np.flatnonzero(free)
        if not len(places):
            return None
        found = rows[places]
        sticky = -1
        if lease.sticky_agent_id:
            session = self._board.sessions.get(lease.sticky_agent_id)
            if session is not None and session.row >= 0:
                at = np.flatnonzero(found == session.row)
                sticky = int(at[0]) if len(at) else -1
        return Batch(lease, demand, places, found, sticky)

    def _without_excluded(self, lease: Lease, free: BoolArray, now_s: float) -> BoolArray:
        """Leave out agents the task should avoid, unless nobody else that is connected fits."""
        board = self._board
        demand = lease.demand
        assert demand is not None
        rows = demand.rows
        allowed = ~self._avoided(lease, demand)
        others = (board.fleet.block[rows] == Block.OPEN) & allowed
        if others.any():
            return free & allowed
        # The only agents are those that failed or declined it. They get it again after a pause:
        # an agent that always declines would otherwise be asked thousands of times a second.
        if now_s - lease.granted_s < board.limits.pause_s:
            return np.zeros(len(rows), np.bool_)
        return free

    def _avoided(self, lease: Lease, demand: Demand) -> BoolArray:
        avoided = np.zeros(len(demand.rows), np.bool_)
        for agent_id in lease.excluded:
            session = self._board.sessions.get(agent_id)
            if session is not None and session.row in demand.members:
                avoided |= demand.rows == session.row
        return avoided

    def _decide(self, batch: Batch, model: Model | None) -> tuple[int, Decision]:
        """Return the row of the chosen agent and the record of the choice."""
        lease = batch.lease
        formula = self._formula.score(batch)
        learned: Scores | None = None
        draw: Draw
        shadow = -1
        policy, version, scores = "formula", "", formula
        if model is None:
            draw = draw_best(formula.totals, self._board.rng)
        else:
            learned = Learned(self._board.fleet, model).score(batch)
            version = model.version
            if _decides(model, lease.task_id):
                policy, scores = "learned", learned
                draw = draw_learned(learned, model.exploration, self._board.rng)
                shadow = int(formula.totals.argmax())
                self.learned += 1
                self.explored += draw.explored
            else:
                draw = draw_best(formula.totals, self._board.rng)
                shadow = int(learned.totals.argmax())
        self.decided += 1
        decision = self._record(batch, scores, learned, draw, policy, version, shadow)
        return int(batch.rows[draw.place]), decision

    def _record(
        self,
        batch: Batch,
        scores: Scores,
        learned: Scores | None,
        draw: Draw,
        policy: str,
        version: str,
        shadow: int,
    ) -> Decision:
        fleet = self._board.fleet
        top = _top(scores, draw.place)
        rows = batch.rows[top]
        names = [session.agent_id for row in rows.tolist() if (session := fleet.sessions[row])]
        chosen = fleet.sessions[int(batch.rows[draw.place])]
        assert chosen is not None
        successes: list[float] = []
        delays: list[float] = []
        if learned is not None and learned.success is not None and learned.delays_ms is not None:
            successes = learned.success[top].tolist()
            delays = learned.delays_ms[top].tolist()
        other = fleet.sessions[int(batch.rows[shadow])] if shadow >= 0 else None
        return Decision(
            chosen.agent_id,
            policy,
            version,
            draw.probability,
            len(batch.rows),
            self._filtered(batch),
            names,
            scores.totals[top].tolist(),
            batch.demand.match[batch.places[top]].tolist(),
            (fleet.points[rows] / LOAD_WEIGHT).tolist(),
            float(batch.lease.priority),
            successes,
            delays,
            other.agent_id if other is not None else "",
            draw.explored,
        )

    def _filtered(self, batch: Batch) -> dict[str, int]:
        """Count the agents that were no candidates, by reason."""
        fleet = self._board.fleet
        members = len(batch.demand.rows)
        filtered: dict[str, int] = {}
        if len(fleet) > members:
            filtered["capability"] = len(fleet) - members
        if members == len(batch.rows):
            return filtered
        counts = np.bincount(fleet.block[batch.demand.rows], minlength=len(Block)).tolist()
        free = int(np.count_nonzero(fleet.points[batch.demand.rows] > -np.inf))
        filtered["busy"] = counts[Block.OPEN] - free + counts[Block.PAUSED]
        filtered["excluded"] = free - len(batch.rows)
        for block in (Block.BREAKER, Block.DRAINING, Block.QUARANTINED, Block.SUSPECT):
            filtered[block.name.lower()] = counts[block]
        return {reason: count for reason, count in filtered.items() if count}

    def _offer(self, lease: Lease, choice: tuple[int, Decision], now: Instant) -> None:
        board = self._board
        row, decision = choice
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
        board.effects.append(SendAssign(session, session.next_seq(), lease, lease.body))


def _decides(model: Model, task_id: str) -> bool:
    """Whether the model decides for a task; the same task always falls on the same side."""
    if model.mode is Mode.CANARY:
        return zlib.crc32(task_id.encode()) / 2**32 < model.canary_fraction
    return model.mode is Mode.LIVE


def _top(scores: Scores, place: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return the places of the best candidates, best first, the chosen one always among them."""
    totals = scores.totals
    count = min(candidates_len_max, len(totals))
    top = np.arange(len(totals))
    if len(totals) > count:
        top = np.argpartition(totals, -count)[-count:]
    top = top[np.argsort(-totals[top], kind="stable")]
    if place not in top.tolist():
        top[-1] = place
    return top
