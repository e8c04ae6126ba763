"""Whether agents are still there: the silent are doubted, the way down to each is proved.

An agent that speaks but cannot be reached gets no work: liveness is proved on the path that
assignments take.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from services.routing.core.attendance import Attendance
from services.routing.core.board import Board
from services.routing.core.effects import CloseStream, SendPace, SendProbe, SendRefusal
from services.routing.core.pace import differs
from services.routing.core.session import Session, Stream

if TYPE_CHECKING:
    from services.kernel.instant import Instant

LOOK_S = 0.25
"""The shortest time between two looks at an agent."""


class Liveness:
    """Looks after every agent, each when its time has come."""

    def __init__(self, board: Board, attendance: Attendance) -> None:
        self._board = board
        self._attendance = attendance

    def watch(self, now: Instant) -> None:
        """Look after every agent whose time has come."""
        looks = self._board.looks
        for session in tuple(looks.due(now.mono_s)):
            looks.at(self._look(session, now), session)

    def _look(self, session: Session, now: Instant) -> float:
        """End a pause, doubt the silent, prove the way down; return when to look again."""
        board = self._board
        next_s = math.inf
        if session.paused:
            if session.paused_until_s <= now.mono_s:
                session.paused = False
                board.fleet.refresh(session)
            else:
                next_s = session.paused_until_s
        if session.stream is None or not session.ready:
            # Ready asks for the next look.
            return next_s
        if not session.silent:
            silent_s = session.heard_s + 2 * session.heartbeat_s + 1.0
            if silent_s < now.mono_s:
                session.silent = True
                board.fleet.refresh(session)
            else:
                next_s = min(next_s, silent_s)
        else:
            next_s = now.mono_s + session.heartbeat_s
        next_s = min(next_s, self._prove(session, now))
        return max(next_s, now.mono_s + LOOK_S)

    def _prove(self, session: Session, now: Instant) -> float:
        """See to it that the way down is proved again and again; without a proof, give it up.

        Returns:
            When to look again.
        """
        board = self._board
        limits = board.limits
        sent_s = session.probe_sent_s
        # Asked so early that whoever is not reached gets nothing one interval after the last proof.
        answer_s = min(limits.ack_s, limits.probe_s / 2)
        due_s = session.proved_s + limits.probe_s - answer_s
        if now.mono_s < due_s:
            session.probe_sent_s = None
            if session.unproved:
                session.unproved = False
                board.fleet.refresh(session)
            return due_s
        if sent_s is None:
            self._probe(session, now)
            return now.mono_s + answer_s
        if now.mono_s - sent_s > limits.probe_s:
            self._cut_off(session, now)
            return math.inf
        if now.mono_s - sent_s >= answer_s:
            if not session.unproved:
                # An assignment would have gone back by now: it gets none until it answers.
                session.unproved = True
                board.fleet.refresh(session)
            return now.mono_s + LOOK_S
        return sent_s + answer_s

    def _probe(self, session: Session, now: Instant) -> None:
        board = self._board
        session.probe_nonce += 1
        session.probe_sent_s = now.mono_s
        board.effects.append(SendProbe(session, session.probe_nonce))
        heartbeat_s = board.heartbeat_s
        if differs(session.heartbeat_s, heartbeat_s):
            # With the probe it costs no message of its own, and a fleet is not told all at once.
            session.heartbeat_s = heartbeat_s
            board.effects.append(SendPace(session, heartbeat_s))

    def alive(self) -> list[Session]:
        """Return the sessions that were heard of, or have another load, since the last call."""
        heard = []
        for session in self._board.sessions.values():
            state = (session.heard_s, session.load)
            if session.stream is not None and state != session.alive_told:
                session.alive_told = state
                heard.append(session)
        return heard

    def stall_stream(self, number: int, now: Instant, *, stalled: bool) -> None:
        """Give the agents of a stream nothing while its reader is behind; in the end close it."""
        stream = self._board.streams.get(number)
        if stream is None:
            return
        since_s = stream.stalled_s
        if stalled is not (since_s is not None):
            stream.stalled_s = now.mono_s if stalled else None
            for session in stream.agents.values():
                session.stalled = stalled
                self._board.fleet.refresh(session)
        elif since_s is not None and not stream.closing:
            if now.mono_s - since_s >= self._board.limits.stall_s:
                stream.closing = True
                message = "The stream was not read for too long; open another and resume."
                self._board.effects.append(CloseStream(number, "STREAM_STALLED", message))

    def sent(self, stream: Stream, left_bytes: int) -> bool:
        """Note what still waits for a stream; return whether its agents get work again."""
        stream.queued_bytes = left_bytes
        if not stream.full or left_bytes * 2 > stream.room_bytes:
            return False
        stream.full = False
        for session in stream.agents.values():
            self._board.fleet.refresh(session)
        return True

    def _cut_off(self, session: Session, now: Instant) -> None:
        """Treat an agent as gone whose way down is dead, though it may still speak."""
        stream = session.stream
        assert stream is not None
        message = "No answer to a probe: assignments do not get through. Open another stream."
        self._board.effects.append(
            SendRefusal(stream.number, session.agent_id, "PROBE_UNANSWERED", message, "", True)
        )
        del stream.agents[session.agent_id]
        self._attendance.detach(session, now)
