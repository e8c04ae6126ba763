"""What the registry says of agents: obeyed, waited for when an agent comes, and remembered.

Whoever is kept from work must not get any for having started anew, or because its router has. So
an agent that comes gets nothing before the registry, which is asked at once, has said what holds
for it: within milliseconds as a rule, and a bounded moment at the most. While the registry is away
nobody waits; what it said last counts then, as far as this router remembers it.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, NamedTuple

from services.routing.core.board import Board
from services.routing.core.effects import Opened

if TYPE_CHECKING:
    from services.kernel.instant import Instant
    from services.routing.core.session import Session

remembered_len_max = 10_000
"""Agents that are kept from work and whose standing outlasts their sessions; the oldest go."""


class Standing(NamedTuple):
    """What holds for an agent."""

    breaker: str = "CLOSED"
    quarantined: bool = False
    reason: str = ""
    drained_instance_id: str = ""
    """The instance that must drain; a drain is of a process, another one begins anew."""


class Standings:
    """The word of the registry on each agent."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._remembered: OrderedDict[str, Standing] = OrderedDict()
        self._asked: deque[tuple[int, float, Session]] = deque()
        """Who waits for the registry's word: the number it was asked under, and since when."""
        self.asks = 1
        """The number under which the registry was asked last; the first snapshot has 1."""
        self._sought_s = -math.inf
        """Since when there is a registry to be reached."""
        self._ever = False
        """Whether it ever was."""
        self._answered_s: float | None = None
        """Since when it answers; None while it is away."""
        self._mute = False
        """Whether somebody has waited for it in vain: nobody does until it answers again."""

    # The registry.

    def seek(self, now: Instant) -> None:
        """Note that there is a registry, which is yet to be reached."""
        if self._sought_s == -math.inf:
            self._sought_s = now.mono_s

    def answered(self, ask: int, now: Instant) -> None:
        """Let those begin of whom all has been said: the registry was asked under this number."""
        self._ever, self._mute = True, False
        if self._answered_s is None:
            self._answered_s = now.mono_s
        while self._asked and self._asked[0][0] <= ask:
            number, _, session = self._asked.popleft()
            self._begin(session, number)

    def lost(self) -> None:
        """Note that the registry is away."""
        self._answered_s, self._mute = None, False

    def directive(
        self,
        agent_id: str,
        *,
        breaker: str,
        draining: bool,
        quarantined: bool,
        reason: str = "",
        instance_id: str = "",
    ) -> None:
        """Follow what the registry says about an agent."""
        drained = instance_id if draining else ""
        self._remember(agent_id, Standing(breaker, quarantined, reason, drained))
        session = self._board.sessions.get(agent_id)
        if session is not None:
            self._obey(session, breaker, quarantined, reason)
            session.draining = session.draining or draining
            self._board.fleet.refresh(session)

    # Agents.

    def come(self, session: Session, now: Instant, *, sure: bool) -> None:
        """Ask about an agent that comes, and keep it from work until that is answered.

        Args:
            session: Its session, which takes no part in anything yet.
            now: The time.
            sure: Whether it had a session here until now, so that what holds for it is known.
        """
        self.asks += 1
        session.asked = 0
        self._board.effects.append(Opened(session, self.asks))
        if sure:
            return
        if self._due_s(now.mono_s) > now.mono_s:
            session.asked = self.asks
            self._asked.append((self.asks, now.mono_s, session))
        else:
            self._recall(session)

    def tick(self, now: Instant) -> None:
        """Let those begin who have waited for as long as anybody does."""
        while self._asked and self._due_s(self._asked[0][1]) <= now.mono_s:
            number, _, session = self._asked.popleft()
            if session.asked == number:
                self._mute = self._answered_s is not None
                self._recall(session)
            self._begin(session, number)

    # Inside.

    def _due_s(self, came_s: float) -> float:
        """Return until when an agent waits that came then."""
        if self._answered_s is not None:
            most_s = self._board.limits.directive_s
            return -math.inf if self._mute else max(came_s, self._answered_s) + most_s
        # Both may just have been started: a fleet that comes back is not let loose in between.
        return -math.inf if self._ever else self._sought_s + self._board.limits.registry_s

    def _begin(self, session: Session, number: int) -> None:
        if session.asked == number:
            session.asked = 0
            self._board.fleet.refresh(session)

    def _remember(self, agent_id: str, standing: Standing) -> None:
        remembered = self._remembered
        remembered.pop(agent_id, None)
        kept_back = standing.quarantined or standing.drained_instance_id
        if kept_back or standing.breaker in ("OPEN", "HALF_OPEN"):
            remembered[agent_id] = standing
            if len(remembered) > remembered_len_max:
                remembered.popitem(last=False)

    def _recall(self, session: Session) -> None:
        """Let hold for an agent what the registry said last, since it says nothing now."""
        standing = self._remembered.get(session.agent_id)
        if standing is not None:
            self._obey(session, standing.breaker, standing.quarantined, standing.reason)
            if standing.drained_instance_id == session.instance_id:
                session.draining = True

    def _obey(self, session: Session, breaker: str, quarantined: bool, reason: str) -> None:
        session.breaker_open = breaker == "OPEN"
        session.half_open = breaker == "HALF_OPEN"
        if session.half_open:
            self._board.on_probation.setdefault(session, 0.0)
        else:
            self._board.on_probation.pop(session, None)
        session.quarantined = quarantined
        session.told_reason = reason
