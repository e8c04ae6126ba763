"""Effects into frames to agents, written straight into the message that carries them.

Frames are numbered here, in the order in which they leave: one may overtake another until then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.duration_pb2 import Duration

from podium.v1 import routing_pb2, session_pb2
from services.kernel import limits, names
from services.kernel.spans import below, leg_id
from services.routing.core import effects
from services.routing.core.effects import LeaseKey
from services.routing.core.refusals import CODES
from services.routing.core.session import Limits

renewals = 3
"""How many renewals fit in the time of a lease: two may be lost."""

Fill = Callable[[session_pb2.RouterFrame, Any], None]


class Frames:
    """Builds what a stream carries to its agents."""

    def __init__(self, router_id: str, times: Limits) -> None:
        self._router_id = router_id
        self._times = times
        self._fill: dict[type, Fill] = {
            effects.SendReady: self._ready,
            effects.SendAssign: _assign,
            effects.SendRenewAck: _renew_ack,
            effects.SendResultAck: _result_ack,
            effects.SendCancel: self._cancel,
            effects.SendRecall: _recall,
            effects.SendProbe: _probe,
            effects.SendSuperseded: _superseded,
            effects.SendRefusal: _refusal,
            effects.SendDrain: _drain,
            effects.SendTune: _tune,
            effects.SendPace: _pace,
        }

    def response(self, batch: Iterable[effects.ToAgent]) -> routing_pb2.OpenSessionResponse:
        """Return the message with the frames of a batch, in order; each is numbered by it once."""
        response = routing_pb2.OpenSessionResponse()
        add = response.frames.add
        fill = self._fill
        for effect in batch:
            fill[type(effect)](add(), effect)
        return response

    def _ready(self, frame: session_pb2.RouterFrame, effect: effects.SendReady) -> None:
        session, times = effect.session, self._times
        frame.agent_id = session.agent_id
        frame.seq = session.next_seq()
        ready = frame.ready
        ready.session_id = session.session_id
        ready.resume_token = session.resume_token
        ready.resumed = effect.resumed
        ready.router_id = self._router_id
        ready.frame_bytes_max = limits.message_bytes_max
        ready.heartbeat_interval.CopyFrom(_duration(session.heartbeat_s))
        ready.lease_ttl.CopyFrom(_duration(effect.lease_s))
        ready.renew_interval.CopyFrom(_duration(effect.lease_s / renewals))
        ready.ack_timeout.CopyFrom(_duration(times.ack_s))
        for task_id, epoch, verdict in effect.verdicts:
            told = ready.verdicts.add()
            told.lease.task_id = task_id
            told.lease.lease_epoch = epoch
            told.verdict = verdict  # type: ignore[assignment]  # numbers of the wire

    def _cancel(self, frame: session_pb2.RouterFrame, effect: effects.SendCancel) -> None:
        frame.agent_id = effect.session.agent_id
        frame.seq = effect.session.next_seq()
        cancel = frame.cancel
        cancel.lease.task_id = effect.task_id
        cancel.lease.lease_epoch = effect.epoch
        cancel.reason = effect.reason
        cancel.grace.CopyFrom(_duration(self._times.stop_s))


def _assign(frame: session_pb2.RouterFrame, effect: effects.SendAssign) -> None:
    lease = effect.lease
    grant: Any = effect.body
    frame.agent_id = effect.session.agent_id
    frame.seq = lease.offered_seq = effect.session.next_seq()
    assign = frame.assign
    assign.task_id = lease.task_id
    assign.lease_epoch = lease.epoch
    assign.attempt = lease.attempt
    spec = grant.spec
    if traceparent := spec.traceparent:
        assign.traceparent = below(traceparent, leg_id(names.span_assign, *lease.key))
    assign.spec.CopyFrom(spec)
    if grant.checkpoint:
        assign.checkpoint = grant.checkpoint
    if grant.HasField("input"):
        assign.input.CopyFrom(grant.input)
    if lease.deadline_ms:
        assign.attempt_deadline.FromMilliseconds(lease.deadline_ms)


def _renew_ack(frame: session_pb2.RouterFrame, effect: effects.SendRenewAck) -> None:
    frame.agent_id = effect.session.agent_id
    frame.seq = effect.session.next_seq()
    ack = frame.renew_ack
    ack.SetInParent()
    add_leases(ack.held, effect.held)
    add_leases(ack.lost, effect.lost)


def _result_ack(frame: session_pb2.RouterFrame, effect: effects.SendResultAck) -> None:
    frame.agent_id = effect.session.agent_id
    frame.seq = effect.session.next_seq()
    ack = frame.result_ack
    ack.lease.task_id = effect.task_id
    ack.lease.lease_epoch = effect.epoch
    ack.verdict = effect.verdict  # type: ignore[assignment]  # numbers of the wire


def _recall(frame: session_pb2.RouterFrame, effect: effects.SendRecall) -> None:
    frame.agent_id = effect.session.agent_id
    frame.seq = effect.session.next_seq()
    add_leases(frame.recall.leases, effect.leases)


def _probe(frame: session_pb2.RouterFrame, effect: effects.SendProbe) -> None:
    frame.agent_id = effect.session.agent_id
    frame.seq = effect.session.next_seq()
    frame.probe.nonce = effect.nonce


def _superseded(frame: session_pb2.RouterFrame, effect: effects.SendSuperseded) -> None:
    frame.agent_id = effect.session.agent_id
    frame.seq = effect.session.next_seq()
    frame.superseded.instance_id = effect.instance_id


def _refusal(frame: session_pb2.RouterFrame, effect: effects.SendRefusal) -> None:
    frame.agent_id = effect.agent_id
    refusal = frame.refusal
    refusal.code = CODES[effect.reason]
    refusal.reason = effect.reason
    refusal.message = effect.message
    refusal.task_id = effect.task_id
    refusal.closing = effect.closing
    if effect.retry_after_s:
        refusal.retry_after.CopyFrom(_duration(effect.retry_after_s))


def _drain(frame: session_pb2.RouterFrame, effect: effects.SendDrain) -> None:
    frame.drain.deadline.FromMilliseconds(effect.deadline_wall_ms)


def _tune(frame: session_pb2.RouterFrame, effect: effects.SendTune) -> None:
    frame.tune.renew_interval.CopyFrom(_duration(effect.lease_s / renewals))


def _pace(frame: session_pb2.RouterFrame, effect: effects.SendPace) -> None:
    frame.agent_id = effect.session.agent_id
    frame.seq = effect.session.next_seq()
    frame.tune.heartbeat_interval.CopyFrom(_duration(effect.heartbeat_s))


def add_leases(leases: Any, keys: Iterable[LeaseKey]) -> None:
    """Append leases to a repeated field."""
    for task_id, epoch in keys:
        lease = leases.add()
        lease.task_id = task_id
        lease.lease_epoch = epoch


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
