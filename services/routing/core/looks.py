"""When each agent is looked after next: one clock for all, so that idle ones cost nothing."""

from __future__ import annotations

import math
from heapq import heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.routing.core.session import Session


class Looks:
    """Sessions by the time of their next look.

    Times may only come nearer; whoever looks finds out that it was too early, and asks again.
    """

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Session]] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self._due)

    def at(self, due_s: float, session: Session) -> None:
        """Look at a session at `due_s` or earlier, on the monotonic clock."""
        if due_s < session.look_s:
            session.look_s = due_s
            self._number += 1
            heappush(self._due, (due_s, self._number, session))

    def due(self, now_s: float) -> Iterator[Session]:
        """Yield the sessions whose time has come, each once."""
        due = self._due
        while due and due[0][0] <= now_s:
            due_s, _, session = heappop(due)
            # An earlier look was asked for since, and has been.
            if due_s == session.look_s:
                session.look_s = math.inf
                yield session
