"""Who comes in when many say Hello at once: at a bounded rate, those with work first.

A fleet that has lost its router comes back within a moment, and each Hello costs this router, the
registry and, where it brings leases, the scheduler. So Hellos wait here in two lines, of agents
with leases and of the others, for as long as agents wait for Ready anyway; whoever would wait for
longer is asked to come back, each at a time of its own. An agent of which this router still holds
leases does not wait: they would be lost meanwhile.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from services.kernel.errors import PodiumError, ResourceExhausted
from services.routing.core.attendance import Attendance
from services.routing.core.board import Board
from services.routing.core.effects import SendRefusal
from services.routing.core.session import Greeting, Stream, retry_s

if TYPE_CHECKING:
    from services.kernel.instant import Instant

Place = tuple[int, str]
"""Stream and agent id."""

pushed_back_message = "Too many agents come at once; say Hello again after the time named."
absent_s_max = 30.0
"""The longest time that an agent is asked to stay away."""
renewals = 3
"""One with leases comes back in time to renew them: within this share of their life."""


class Admission:
    """The door of a router."""

    def __init__(self, board: Board, attendance: Attendance) -> None:
        self._board = board
        self._attendance = attendance
        self._step_s = 1.0 / board.limits.hellos_per_s
        self._burst_s = board.limits.hellos_burst * self._step_s
        self._room = max(1, int(board.limits.hellos_per_s * board.limits.hello_wait_s))
        self._next_s = 0.0
        """When the next Hello would be due if all came evenly."""
        self._with_leases: OrderedDict[Place, Greeting] = OrderedDict()
        self._others: OrderedDict[Place, Greeting] = OrderedDict()
        self._return_s = {True: 0.0, False: 0.0}
        """The last time that was named to somebody with leases, and to somebody without."""
        self.pushed_back = 0

    def __len__(self) -> int:
        return len(self._with_leases) + len(self._others)

    def hello(self, number: int, greeting: Greeting, now: Instant) -> None:
        """Let an agent in, now or in a moment, or ask it to come back.

        Raises:
            ResourceExhausted: TOO_MANY_AGENTS or TOO_MANY_STRIKES, and nobody else is on the
                stream.
        """
        stream = self._board.streams[number]
        if greeting.agent_id in stream.waiting:
            message = "Hello was said before; wait for Ready."
            self._attendance.refuse(stream, greeting.agent_id, "HELLO_REPEATED", message, now)
            return
        if self._is_bound_to_pass(stream, greeting) or (not len(self) and self._is_due(now)):
            self._take_turn(now)
            self._let_in(stream, greeting, now)
            return
        line = self._with_leases if greeting.in_flight else self._others
        if len(self) >= self._room:
            if not greeting.in_flight or not self._others:
                self._push_back(stream, greeting, now)
                return
            (last, _), given_way = self._others.popitem()
            self._push_back(self._board.streams[last], given_way, now)
        stream.waiting.add(greeting.agent_id)
        # What it says before Ready is not heard, and is no fault: it does not know that it waits.
        stream.greet(greeting.agent_id)
        line[number, greeting.agent_id] = greeting

    def forget(self, number: int, agent_id: str) -> None:
        """Let an agent go that does not wait any longer: it has left, or its connection is lost."""
        self._board.streams[number].waiting.discard(agent_id)
        for line in (self._with_leases, self._others):
            line.pop((number, agent_id), None)

    def close_stream(self, number: int) -> None:
        """Let all agents go that wait on a stream that has ended."""
        stream = self._board.streams.get(number)
        for agent_id in tuple(stream.waiting) if stream else ():
            self.forget(number, agent_id)

    def turn(self, now: Instant) -> None:
        """Let in whoever is due."""
        while len(self) and (self._board.draining or self._is_due(now)):
            (number, agent_id), greeting = (self._with_leases or self._others).popitem(last=False)
            stream = self._board.streams[number]
            stream.waiting.discard(agent_id)
            self._take_turn(now)
            self._let_in(stream, greeting, now, waited=True)

    def _is_bound_to_pass(self, stream: Stream, greeting: Greeting) -> bool:
        """Tell whether an agent need not wait: a pause would cost its work, or an answer is ready.

        Whoever has a session on the stream or meets a router that drains is only refused.
        """
        if self._board.draining or greeting.agent_id in stream.agents:
            return True
        known = self._board.sessions.get(greeting.agent_id)
        return known is not None and bool(known.leases)

    def _is_due(self, now: Instant) -> bool:
        return self._next_s - self._burst_s < now.mono_s

    def _take_turn(self, now: Instant) -> None:
        self._next_s = max(self._next_s, now.mono_s) + self._step_s

    def _let_in(
        self, stream: Stream, greeting: Greeting, now: Instant, *, waited: bool = False
    ) -> None:
        try:
            self._attendance.hello(stream.number, greeting, now)
        except ResourceExhausted as error:
            if not (waited or stream.shared(greeting.agent_id)):
                raise
            # One agent's fault must not end the stream of the others.
            self._send_away(stream, greeting, error, error.retry_after_s or retry_s)

    def _push_back(self, stream: Stream, greeting: Greeting, now: Instant) -> None:
        """Ask an agent to come back when those before it are in; each has a time of its own."""
        self.pushed_back += 1
        stream.waiting.discard(greeting.agent_id)
        stream.greet(greeting.agent_id)
        first = bool(greeting.in_flight)
        ahead = len(self._with_leases) if first else len(self)
        from_s = max(now.mono_s, self._next_s - self._burst_s) + ahead * self._step_s
        at_s = self._return_s[first] = max(from_s, self._return_s[first]) + self._step_s
        most_s = self._board.lease_s / renewals if first else absent_s_max
        error = ResourceExhausted("HELLO_RATE", pushed_back_message)
        self._send_away(stream, greeting, error, min(most_s, at_s - now.mono_s))

    def _send_away(
        self, stream: Stream, greeting: Greeting, error: PodiumError, retry_after_s: float
    ) -> None:
        told = (greeting.agent_id, error.reason, error.message, "", True, retry_after_s)
        self._board.effects.append(SendRefusal(stream.number, *told))
