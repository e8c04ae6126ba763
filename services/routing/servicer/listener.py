"""Frames of agents, each to the input of the core that it means."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

from podium.v1 import session_pb2
from services.kernel.auth import Principal
from services.kernel.errors import FailedPrecondition, InvalidArgument
from services.kernel.instant import Instant
from services.routing.core.effects import LeaseKey
from services.routing.core.session import Session
from services.routing.ports import Desk
from services.routing.servicer.checks import (
    greeting,
    lease_fault,
    progress_fault,
    question_fault,
    result_fault,
)
from services.routing.servicer.rates import Rates, rate_message

log = logging.getLogger("podium.routing.sessions")

frames_len_max = 1_000

Handler = Callable[[Session, Any, Instant], None]

NACK_REASONS = {
    session_pb2.Nack.REASON_BUSY: "NACK_BUSY",
    session_pb2.Nack.REASON_INCAPABLE: "NACK_INCAPABLE",
    session_pb2.Nack.REASON_DRAINING: "NACK_DRAINING",
    session_pb2.Nack.REASON_TOO_LARGE: "NACK_TOO_LARGE",
}


class Listener:
    """Takes the frames of one stream."""

    def __init__(self, desk: Desk, number: int, principal: Principal) -> None:
        self._desk = desk
        self._number = number
        self._principal = principal
        self._admission = desk.router.admission
        self._attendance = desk.router.attendance
        self._work = desk.router.work
        self._rates = Rates()
        self._leases = desk.router.board.leases
        self._idle: dict[str, int] = {}
        """Frames of the message that are not about work, by agent."""
        self._left = 0
        """Agents that have said goodbye and whose place nobody has taken yet."""
        self._replacing = 0
        """Hellos of the message that took such a place."""
        self._unfit: list[tuple[str, InvalidArgument]] = []
        """Agents of the message whose Hello is wrong, where nobody had said a right one before."""
        self._handlers: dict[str | None, Handler] = {
            None: self._nothing,
            "ack": self._ack,
            "result": self._result,
            "renew": self._renew,
            "progress": self._progress,
            "credit": self._credit,
            "heartbeat": self._heartbeat,
            "nack": self._nack,
            "need_input": self._need_input,
            "drain": self._drain,
            "probe_reply": self._probe_reply,
            "goodbye": self._goodbye,
            "detached": self._detached,
        }

    def take(self, frames: Any) -> float:
        """Take the frames of one message and return the seconds to wait before the next.

        Raises:
            FailedPrecondition: HELLO_REQUIRED, and nobody has said Hello on the stream.
            InvalidArgument: INVALID_FIELD, a Hello is wrong, and nobody has said a right one.
            ResourceExhausted: TOO_MANY_STRIKES, TOO_MANY_AGENTS or FRAME_RATE.
        """
        now = self._desk.now()
        if len(frames) > frames_len_max:
            self._refuse("", "BATCH_TOO_LARGE", f"At most {frames_len_max} frames a message.", now)
            return 0.0
        self._idle, self._replacing = {}, 0
        handlers, speaker, number = self._handlers, self._attendance.speaker, self._number
        try:
            for frame in frames:
                kind = frame.WhichOneof("frame")
                if kind == "hello":
                    self._count(frame.agent_id)
                    self._replacing += self._left > 0
                    self._left = max(0, self._left - 1)
                    self._hello(frame.agent_id, frame.hello, now)
                    continue
                try:
                    session = speaker(number, frame.agent_id, now)
                except FailedPrecondition as error:
                    self._uninvited(frame.agent_id, error, now)
                    continue
                if session is None:
                    self._unheard(frame.agent_id, kind, now)
                    continue
                handlers[kind](session, getattr(frame, kind or "agent_id"), now)
            if self._unfit:
                self._turn_down(now)
        finally:
            self._desk.touch()
        stream = self._desk.router.board.streams[number]
        wait_s = 0.0
        if self._idle:
            wait_s, faults = self._rates.take(self._idle, stream, now.mono_s, self._replacing)
            for agent_id in faults:
                self._refuse(agent_id, "FRAME_RATE", rate_message, now)
        if stream.struck:
            self._attendance.strike_out(stream, now)
        return wait_s

    def _nothing(self, session: Session, agent_id: str, now: Instant) -> None:
        self._refuse(agent_id, "INVALID_FIELD", "The frame says nothing.", now)

    def _unheard(self, agent_id: str, kind: str | None, now: Instant) -> None:
        """Pass over a frame of an agent whose session is over, or whose Hello waits."""
        self._count(agent_id)
        if kind in ("goodbye", "detached"):
            self._admission.forget(self._number, agent_id)
            self._left += kind == "goodbye"
        else:
            self._attendance.unheard(self._number, agent_id, now)

    def _count(self, agent_id: str) -> None:
        self._idle[agent_id] = self._idle.get(agent_id, 0) + 1

    def _refuse(
        self, agent_id: str, reason: str, message: str, now: Instant, task_id: str = ""
    ) -> None:
        stream = self._desk.router.board.streams[self._number]
        self._attendance.refuse(stream, agent_id[:64], reason, message, now, task_id)

    def _uninvited(self, agent_id: str, error: FailedPrecondition, now: Instant) -> None:
        """Answer a frame of an agent that has not said Hello on this stream."""
        if not self._may_be(agent_id):
            self._deny(agent_id, now)
        elif self._desk.router.board.streams[self._number].greeted or self._unfit:
            # One agent's fault must not end the stream of the others.
            self._refuse(agent_id, error.reason, error.message, now)
        else:
            raise error

    def _turn_down(self, now: Instant) -> None:
        """Answer Hellos that are wrong, once all of the message are known.

        Where one was right it is no matter which of them came first: the stream is for that one.
        """
        unfit, self._unfit = self._unfit, []
        if not self._desk.router.board.streams[self._number].greeted:
            raise unfit[0][1]
        for agent_id, error in unfit:
            self._refuse(agent_id, error.reason, error.message, now)

    def _may_be(self, agent_id: str) -> bool:
        principal = self._principal
        own = principal.may("service") or agent_id == principal.subject
        return own or agent_id.startswith(f"{principal.subject}-")

    def _deny(self, agent_id: str, now: Instant) -> None:
        subject = self._principal.subject
        log.warning("not its agent", extra={"subject": subject, "agent_id": agent_id[:64]})
        message = f"The caller {subject} may not speak for this agent."
        self._refuse(agent_id, "AGENT_NOT_YOURS", message, now)

    def _hello(self, agent_id: str, hello: session_pb2.Hello, now: Instant) -> None:
        stream = self._desk.router.board.streams[self._number]
        try:
            said = greeting(agent_id, hello)
        except InvalidArgument as error:
            self._unfit.append((agent_id, error))
            return
        principal = self._principal
        if not self._may_be(agent_id):
            self._deny(agent_id, now)
            return
        for name in said.capabilities:
            if not principal.may_offer(name) and not principal.may("service"):
                message = f"The caller may not offer the capability {name}."
                told = {"subject": principal.subject, "agent_id": agent_id, "capability": name}
                log.warning("a capability that was not granted", extra=told)
                self._refuse(agent_id, "CAPABILITY_NOT_GRANTED", message, now)
                stream.greet(agent_id)
                return
        self._admission.hello(self._number, said, now)

    def _key(self, session: Session, lease: session_pb2.LeaseRef, now: Instant) -> LeaseKey | None:
        """Return what a frame is about; None, and the frame is refused, when that is no lease."""
        key = (lease.task_id, lease.lease_epoch)
        if fault := lease_fault(*key):
            self._refuse(session.agent_id, "INVALID_FIELD", fault, now, key[0][:64])
            return None
        if self._leases.get(key) is None and key not in self._leases.unsettled:
            # Late once in a while, and a flood if it goes on: each is answered.
            self._count(session.agent_id)
        return key

    def _ack(self, session: Session, ack: session_pb2.Ack, now: Instant) -> None:
        if key := self._key(session, ack.lease, now):
            self._work.ack(session, key, now)

    def _nack(self, session: Session, nack: session_pb2.Nack, now: Instant) -> None:
        reason = NACK_REASONS.get(nack.reason)
        lease = nack.lease
        if reason is None:
            message = "nack.reason must be one of the reasons."
            self._refuse(session.agent_id, "INVALID_FIELD", message, now, lease.task_id[:64])
            return
        if key := self._key(session, lease, now):
            self._work.nack(session, key, reason, now)

    def _renew(self, session: Session, renew: session_pb2.Renew, now: Instant) -> None:
        self._count(session.agent_id)
        if len(renew.leases) > frames_len_max:
            message = f"At most {frames_len_max} leases a renewal."
            self._refuse(session.agent_id, "BATCH_TOO_LARGE", message, now)
            return
        keys = []
        fault = ""
        for ref in renew.leases:
            if found := lease_fault(ref.task_id, ref.lease_epoch):
                fault = found
            else:
                keys.append((ref.task_id, ref.lease_epoch))
        if fault:
            # Once a frame, however many there are.
            self._refuse(session.agent_id, "INVALID_FIELD", fault, now)
        self._work.renew(session, keys, now)

    def _progress(self, session: Session, progress: session_pb2.Progress, now: Instant) -> None:
        lease = progress.lease
        fault = progress_fault(progress)
        if fault:
            self._refuse(session.agent_id, "INVALID_FIELD", fault, now, lease.task_id[:64])
            return
        if key := self._key(session, lease, now):
            self._work.progress(session, key, progress, now)

    def _need_input(self, session: Session, asked: session_pb2.NeedInput, now: Instant) -> None:
        key = self._key(session, asked.lease, now)
        if key is None:
            return
        refused = question_fault(asked)
        if refused:
            self._work.result(session, key, asked, "CANCELED", now, refused=refused)
            return
        self._work.need_input(session, key, asked, now)

    def _result(self, session: Session, result: session_pb2.Result, now: Instant) -> None:
        lease = result.lease
        outcome = result.WhichOneof("outcome")
        if outcome is None:
            message = "result.outcome is required: success, failure or canceled."
            self._refuse(session.agent_id, "INVALID_FIELD", message, now, lease.task_id[:64])
            return
        key = self._key(session, lease, now)
        if key is None:
            return
        refused = result_fault(result, outcome)
        self._work.result(session, key, result, blame(result, refused), now, refused=refused)

    def _credit(self, session: Session, credit: session_pb2.Credit, now: Instant) -> None:
        # One that follows assignments is about work: there is one for each task that ended.
        most = session.assigned_total + session.max_concurrency
        if not (session.credit_total or 0) < credit.total <= most:
            self._count(session.agent_id)
        if credit.total < 0:
            message = "credit.total must be at least 0."
            self._refuse(session.agent_id, "INVALID_FIELD", message, now)
            return
        self._attendance.credit(session, credit.total)

    def _heartbeat(self, session: Session, beat: session_pb2.Heartbeat, now: Instant) -> None:
        # The session was marked as heard already.
        self._count(session.agent_id)
        if not 0.0 <= beat.load < math.inf:
            message = "heartbeat.load must be a number of at least 0."
            self._refuse(session.agent_id, "INVALID_FIELD", message, now)

    def _drain(self, session: Session, drain: session_pb2.AgentDrain, now: Instant) -> None:
        self._count(session.agent_id)
        self._attendance.drain_agent(session)

    def _probe_reply(self, session: Session, reply: session_pb2.ProbeReply, now: Instant) -> None:
        self._count(session.agent_id)
        self._attendance.probe_reply(session, reply.nonce, now)

    def _goodbye(self, session: Session, goodbye: session_pb2.Goodbye, now: Instant) -> None:
        self._left += 1
        self._attendance.goodbye(session, now)

    def _detached(self, session: Session, detached: session_pb2.Detached, now: Instant) -> None:
        if not self._principal.may("service"):
            message = "Only a bridge says that an agent is detached."
            self._refuse(session.agent_id, "ROLE_MISSING", message, now)
            return
        self._attendance.lost(session, now)


def blame(result: session_pb2.Result, refused: str) -> str:
    """Return how a result counts for its agent.

    A failure that no retry can mend, or a result that is only too large, lies in the task: it is
    nobody's fault.
    """
    kind = result.WhichOneof("outcome")
    if refused:
        return "CANCELED" if refused == "RESULT_TOO_LARGE" else "FAILED"
    if kind == "failure" and result.failure.retryable:
        return "FAILED"
    return "SUCCEEDED" if kind == "success" else "CANCELED"
