"""The core of Routing as the shell sees it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from services.routing.core import credits
from services.routing.core.admission import Admission
from services.routing.core.attendance import Attendance
from services.routing.core.board import Board
from services.routing.core.effects import Effect
from services.routing.core.liveness import Liveness
from services.routing.core.match import Matcher
from services.routing.core.model import Model, ModelFault, RawModel
from services.routing.core.orders import Orders
from services.routing.core.session import Limits
from services.routing.core.standing import Standings
from services.routing.core.work import Work

if TYPE_CHECKING:
    from services.kernel.instant import Instant

WATCH_S = 0.25
STALL_S = 1.0
"""A tick this late says that this process stood still, not that agents were silent."""


class Router:
    """Sessions, leases and the choice between them.

    Inputs go to `admission`, `attendance`, `standings`, `work` and `orders`; then `turn` decides
    and returns what is to be done.
    """

    def __init__(self, router_id: str, limits: Limits, rng: np.random.Generator) -> None:
        self.board = Board(router_id, limits, rng)
        self.work = Work(self.board)
        self.standings = Standings(self.board)
        self.attendance = Attendance(self.board, self.work, self.standings)
        self.admission = Admission(self.board, self.attendance)
        self.orders = Orders(self.board, self.work, self.attendance)
        self.liveness = Liveness(self.board, self.attendance)
        self.matcher = Matcher(self.board)
        self.models_rejected = 0
        self.stalls = 0
        self._ticked_s = math.inf
        self._spare_until_s = 0.0
        self._watch_due_s = 0.0
        self._renew_due_s = 0.0

    def turn(self, now: Instant) -> list[Effect]:
        """Give out what can be given out and return everything that is to be done."""
        board = self.board
        if self.admission:
            self.admission.turn(now)
        if board.waiting:
            if not board.draining:
                self.matcher.run(now)
            self.work.return_stranded(now)
        credits.announce(board, now.mono_s)
        return board.take_effects()

    def tick(self, now: Instant) -> None:
        """Do what is due; call it several times a second, then `turn`."""
        if now.mono_s >= self._renew_due_s:
            self._renew_due_s = now.mono_s + self.board.lease_s / 3
            self.work.renew_own()
        if now.mono_s - self._ticked_s > STALL_S:
            self.stalls += 1
            # Acks, replies and Hellos may lie unread: time for them before anybody is given up.
            self._spare_until_s = now.mono_s + STALL_S
        self._ticked_s = now.mono_s
        if now.mono_s < self._spare_until_s:
            return
        self.standings.tick(now)
        self.attendance.tick(now)
        self.work.expire_offers(now)
        if now.mono_s >= self._watch_due_s:
            credits.pace(self.board, now.mono_s - self._watch_due_s + WATCH_S)
            self._watch_due_s = now.mono_s + WATCH_S
            self.liveness.watch(now)
            self.work.expire_stops(now)

    def learn(self, raw: RawModel, now: Instant) -> str:
        """Use a new model from now on, or keep the one there is; return what is wrong with it."""
        board = self.board
        board.model_down_s = None
        if board.model is not None and board.model.version == raw.version:
            fresh = board.model.mode == raw.mode
            fresh = fresh and board.model.canary_fraction == raw.canary_fraction
            if fresh:
                board.model_s = now.mono_s
                return ""
        try:
            model = Model(raw)
        except ModelFault as fault:
            self.models_rejected += 1
            return str(fault)
        board.model = model
        board.model_s = now.mono_s
        model.map_rows(board.fleet)
        return ""

    def model_gone(self, now: Instant) -> None:
        """Note that no newer model can come for now."""
        if self.board.model_down_s is None:
            self.board.model_down_s = now.mono_s
