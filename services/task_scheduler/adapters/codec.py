"""The core's events and orders as bytes of the wire contract, and back.

The five events every task has are joined by hand, the rare ones are built as messages; a test
reads both with the generated classes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

from podium.v1 import event_pb2, session_pb2, task_pb2, task_scheduler_pb2
from services.kernel.errors import FailedPrecondition
from services.task_scheduler.adapters import messages
from services.task_scheduler.adapters.plain import pack, unpack
from services.task_scheduler.adapters.wire import double, duration, field, tag, timestamp, varint
from services.task_scheduler.core import event as facts
from services.task_scheduler.core.event import Created, Event, Terms
from services.task_scheduler.core.orders import (
    Grant,
    Order,
    Revoke,
    Settled,
    Verdicts,
    Welcome,
)
from services.task_scheduler.core.retry import RetryPolicy
from services.task_scheduler.core.states import Kind
from services.task_scheduler.core.task import Task
from services.task_scheduler.ports import Sealed

_KIND = {kind: b"\x10" + varint(kind) for kind in Kind}
_KINDS: dict[int, Kind] = {int(kind): kind for kind in Kind}
_FRAME = tag(1)
_TRACEPARENT = tag(17)
_PAYLOAD = tag(2)


class ProtoCodec:
    """Encodes each event once, for the log, for watchers and for replay."""

    def __init__(self) -> None:
        self._wall_ms = -1
        self._time = b""
        # Most tasks share their terms: one object for a million of them.
        self._terms = lru_cache(4_096)(Terms)
        self._capabilities = lru_cache(4_096)(_sorted)
        self._policy = lru_cache(1_024)(_policy)

    def seal(self, event: Event, task: Task | None, mono_s: float) -> Sealed:
        """Encode an event."""
        if event.wall_ms != self._wall_ms:
            self._wall_ms = event.wall_ms
            self._time = field(b"\x2a", timestamp(event.wall_ms))
        parts = [b"\x08", varint(event.seq), _KIND[event.kind], self._time]
        if task is not None:
            parts.append(task.identity or _identify(task))
        if event.lease_epoch:
            parts += (b"\x30", varint(event.lease_epoch))
        if event.attempt:
            parts += (b"\x38", varint(event.attempt))
        if event.agent_id:
            parts.append(field(b"\x42", event.agent_id.encode()))
        if event.router_id:
            parts.append(field(b"\x4a", event.router_id.encode()))
        common = b"".join(parts)
        if event.detail is None:
            frame = field(_FRAME, common)
            return Sealed(event, task, mono_s, frame, frame)
        whole, lean = _DETAIL[type(event.detail)](event)
        frame = field(_FRAME, common + whole)
        slim = frame if lean is whole else field(_FRAME, common + lean)
        return Sealed(event, task, mono_s, frame, slim)

    def decode(self, message: event_pb2.Event) -> Event | None:
        """Return the core's event; None when it may be skipped.

        Raises:
            FailedPrecondition: JOURNAL_TOO_NEW, it is of a type that may not be skipped.
        """
        kind = _KINDS.get(message.type)
        if kind is None:
            if message.skippable:
                return None
            raise FailedPrecondition(
                "JOURNAL_TOO_NEW",
                f"event {message.seq} of the journal is of type {message.type}, which a newer "
                "Podium wrote: run that version",
                metadata={"seq": str(message.seq), "type": str(message.type)},
            )
        time = message.event_time
        detail = messages.detail(message, self)
        return Event(
            message.seq,
            kind,
            message.task_id,
            time.seconds * 1000 + time.nanos // 1_000_000,
            message.lease_epoch,
            message.attempt,
            message.agent_id,
            message.router_id,
            detail,
        )

    def created(
        self,
        spec: task_pb2.TaskSpec,
        *,
        principal: str = "",
        submitter_id: str = "",
        spec_hash: bytes = b"",
    ) -> Created:
        """Return the facts of a task whose defaults are filled in; `spec` is spoiled by it."""
        payload = spec.payload.SerializeToString()
        traceparent = spec.traceparent
        spec.ClearField("payload")
        spec.ClearField("traceparent")
        return Created(
            spec.type,
            spec.tenant,
            self._capabilities(tuple(spec.required_capabilities)),
            self._read_terms(spec),
            tuple(spec.depends_on),
            spec.SerializeToString(deterministic=True),
            payload,
            traceparent,
            principal,
            submitter_id,
            spec.request_id,
            spec_hash,
        )

    def pack(self, part: dict[str, Any]) -> bytes:
        """Encode a part of a snapshot."""
        return pack(part)

    def unpack(self, packed: bytes) -> dict[str, Any]:
        """Return a part of a snapshot."""
        part: dict[str, Any] = unpack(packed)
        return part

    def order(self, order: Order) -> bytes:
        """Encode an order as field 1 of a message."""
        if isinstance(order, Grant):
            return field(_FRAME, field(b"\x12", _grant(order)))
        if isinstance(order, Settled):
            body = _lease(b"\x0a", *order.lease) + b"\x10" + varint(order.settlement)
            return field(_FRAME, field(b"\x1a", body))
        return field(_FRAME, _rare(order).SerializeToString())

    def _read_terms(self, spec: task_pb2.TaskSpec) -> Terms:
        budget = spec.budget
        return self._terms(
            spec.priority,
            self._policy(spec.retry_policy.SerializeToString()),
            spec.attempt_timeout.ToMilliseconds() if spec.HasField("attempt_timeout") else 0,
            spec.deadline.ToMilliseconds() if spec.HasField("deadline") else 0,
            spec.not_before.ToMilliseconds() if spec.HasField("not_before") else 0,
            spec.dependency_policy == task_pb2.DEPENDENCY_POLICY_SKIP,
            budget.max_cost,
            budget.max_tokens,
            spec.sticky_key,
        )


def _policy(message: bytes) -> RetryPolicy:
    policy = task_pb2.RetryPolicy.FromString(message)
    return RetryPolicy(
        policy.max_retries,
        policy.initial_backoff.ToMilliseconds(),
        policy.backoff_multiplier,
        policy.max_backoff.ToMilliseconds(),
        policy.jitter,
    )


def _sorted(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))


def _identify(task: Task) -> bytes:
    """Encode, once, what each event repeats about its task."""
    task.identity = b"".join(
        (
            field(b"\x1a", task.task_id.encode()),
            field(b"\x22", task.task_type.encode()),
            field(b"\x52", task.traceparent.encode()) if task.traceparent else b"",
            field(tag(18), task.tenant.encode()) if task.tenant else b"",
        )
    )
    return task.identity


def _spec(head: bytes, traceparent: str, payload: bytes) -> bytes:
    """Return a TaskSpec put together again."""
    return b"".join(
        (
            head,
            field(_TRACEPARENT, traceparent.encode()) if traceparent else b"",
            field(_PAYLOAD, payload) if payload else b"",
        )
    )


def _created(event: Event) -> tuple[bytes, bytes]:
    created = event.detail
    assert isinstance(created, Created)
    rest = b"".join(
        (
            field(b"\x12", created.principal.encode()) if created.principal else b"",
            field(b"\x1a", created.submitter_id.encode()) if created.submitter_id else b"",
            field(b"\x22", created.spec_hash) if created.spec_hash else b"",
        )
    )
    lean_spec = _spec(created.head, created.traceparent, b"")
    lean = field(b"\x5a", field(b"\x0a", lean_spec) + rest)
    if not created.payload:
        return lean, lean
    spec = lean_spec + field(_PAYLOAD, created.payload)
    return field(b"\x5a", field(b"\x0a", spec) + rest), lean


def _started(event: Event) -> tuple[bytes, bytes]:
    started = event.detail
    assert isinstance(started, facts.Started)
    body = field(b"\x12", duration(started.latency_us))
    if started.decision:
        body += field(b"\x0a", started.decision)
    whole = field(b"\x62", body)
    return whole, whole


def _completed(event: Event) -> tuple[bytes, bytes]:
    completed = event.detail
    assert isinstance(completed, facts.Completed)
    rest = b"".join(
        (
            _usage(completed.usage),
            field(b"\x1a", duration(completed.run_us)),
            field(b"\x22", duration(completed.total_us)),
            b"" if completed.confidence is None else double(b"\x29", completed.confidence),
            field(b"\x32", completed.result_hash),
        )
    )
    # An empty result is still a result: the field is there.
    return field(b"\x72", field(b"\x0a", completed.result) + rest), field(b"\x72", rest)


def _usage(usage: facts.Usage | None) -> bytes:
    return b"" if usage is None else field(b"\x12", messages.usage_bytes(usage))


def _message(event: Event) -> tuple[bytes, bytes]:
    whole, lean = messages.rare_detail(event)
    encoded = whole.SerializeToString()
    return encoded, encoded if lean is whole else lean.SerializeToString()


_DETAIL = {
    facts.Created: _created,
    facts.Started: _started,
    facts.Completed: _completed,
    facts.Progress: _message,
    facts.Failed: _message,
    facts.Retrying: _message,
    facts.Input: _message,
}


def _lease(head: bytes, task_id: str, epoch: int) -> bytes:
    return field(head, field(b"\x0a", task_id.encode()) + b"\x10" + varint(epoch))


def _grant(grant: Grant) -> bytes:
    task = grant.task
    parts = [
        field(b"\x0a", task.task_id.encode()),
        b"\x10",
        varint(grant.lease_epoch),
        b"\x18",
        varint(task.attempt + 1),
        field(b"\x22", _spec(task.head, task.traceparent, task.payload)),
        b"\x28",
        varint(grant.class_id),
    ]
    parts += [field(b"\x32", agent_id.encode()) for agent_id in task.excluded]
    if task.checkpoint:
        parts.append(field(b"\x3a", task.checkpoint))
    if task.input:
        parts.append(field(b"\x42", task.input))
    parts.append(field(b"\x4a", timestamp(task.queued_ms)))
    if grant.sticky_agent_id:
        parts.append(field(b"\x52", grant.sticky_agent_id.encode()))
    return b"".join(parts)


def _rare(order: Welcome | Revoke | Verdicts) -> task_scheduler_pb2.DispatchOrder:
    message = task_scheduler_pb2.DispatchOrder()
    if isinstance(order, Revoke):
        message.revoke.lease.task_id, message.revoke.lease.lease_epoch = order.lease
        message.revoke.reason = order.reason
        return message
    if isinstance(order, Welcome):
        message.welcome.lease_ttl.FromMilliseconds(round(order.lease_ttl_s * 1000))
        verdicts = message.welcome.verdicts
    else:
        message.verdicts.agent_id = order.agent_id
        verdicts = message.verdicts.verdicts
    for (task_id, epoch), verdict in order.verdicts:
        lease = session_pb2.LeaseRef(task_id=task_id, lease_epoch=epoch)
        verdicts.append(
            session_pb2.LeaseVerdict(
                lease=lease, verdict=cast("session_pb2.LeaseVerdict.Verdict", int(verdict))
            )
        )
    return message
