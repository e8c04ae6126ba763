"""The core's events and orders as bytes of the wire contract, and back.

The five events every task has are joined by hand, the rare ones are built as messages; a test
reads both with the generated classes. Where `%c` is the length of a field, it is of one that is
never longer than the 127 bytes whose length is a byte: a duration, a hash, an id of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from podium.v1 import event_pb2, schedule_pb2, task_pb2
from services.kernel.errors import FailedPrecondition
from services.kernel.finetime import FineTime
from services.task_scheduler.adapters import messages
from services.task_scheduler.adapters.plain import pack, unpack
from services.task_scheduler.adapters.wire import (
    double,
    duration,
    field,
    fine_timestamp,
    tag,
    timestamp,
    varint,
)
from services.task_scheduler.core import event as facts
from services.task_scheduler.core.event import FROM_CLIENT, Created, Event, Origin, Terms
from services.task_scheduler.core.orders import Grant, Order, Settled, Settlement
from services.task_scheduler.core.retry import RetryPolicy
from services.task_scheduler.core.states import SKIPPABLE, Kind
from services.task_scheduler.core.task import Task
from services.task_scheduler.ports import Sealed

_KIND = [
    b"\x10" + varint(number) + (tag(19, 0) + b"\x01" if number in SKIPPABLE else b"")
    for number in range(max(Kind) + 1)
]
_SETTLEMENT = [b"\x10" + varint(number) for number in range(max(Settlement) + 1)]
_FRAME = tag(1)
_REQUEST_ID = tag(8)
_TRACEPARENT = tag(17)
_PAYLOAD = tag(2)
_SCHEDULE_ID = tag(23)
_SCHEDULE_TIME = tag(24)
_SUBMITTER_ID = tag(24)
_KINDS = {int(kind): kind for kind in Kind}

SHAPES_LEN_MAX = 4_096
IDENTITIES_LEN_MAX = 8_192


class _Shape(NamedTuple):
    """What tasks have in common that differ in payload, request id and trace alone."""

    task_type: str
    tenant: str
    capabilities: tuple[str, ...]
    terms: Terms
    depends_on: tuple[str, ...]
    head: bytes
    origin: Origin


class ProtoCodec:
    """Encodes each event once, for the log, for watchers and for replay."""

    def __init__(self, partition: int = 0) -> None:
        self._partition = tag(22, 0) + varint(partition) if partition else b""
        self._wall_ms = -1
        self._mono_s = 0.0
        self._wall_us = FineTime().wall_us
        self._time = b""
        # Most tasks share their terms: one object for a million of them.
        self._terms = lru_cache(4_096)(Terms)
        self._capabilities: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._shapes: dict[bytes, _Shape] = {}
        self._identities: dict[str, bytes] = {}
        self._kinship = lru_cache(4_096)(_kinship)
        self._policy = lru_cache(1_024)(_policy)
        self._holders = lru_cache(16_384)(_holders)

    def seal(self, event: Event, task: Task | None, mono_s: float) -> Sealed:
        """Encode an event."""
        detail, wall_ms = event.detail, event.wall_ms
        if mono_s != self._mono_s or wall_ms != self._wall_ms:
            self._wall_ms, self._mono_s = wall_ms, mono_s
            at = fine_timestamp(self._wall_us(wall_ms, mono_s))
            self._time = field(b"\x2a", at) + self._partition
        identity = b""
        if task is not None:
            identity = self._identities.get(event.task_id) or self._identify(task)
        elif type(detail) is facts.ScheduleChange:
            identity = field(tag(18), detail.tenant.encode())
        common = b"".join(
            (
                b"\x08",
                varint(event.seq),
                _KIND[event.kind],
                self._time,
                identity,
                b"\x30" + varint(event.lease_epoch) if event.lease_epoch else b"",
                b"\x38" + varint(event.attempt) if event.attempt else b"",
                self._holders(event.agent_id, event.router_id),
            )
        )
        if detail is None:
            frame = field(_FRAME, common)
            return frame, frame
        whole, lean = _DETAIL[type(detail)](detail)
        frame = field(_FRAME, common + whole)
        slim = frame if lean is whole else field(_FRAME, common + lean)
        return frame, slim

    def _identify(self, task: Task) -> bytes:
        """Return what all events of a task repeat; they follow each other soon."""
        if len(self._identities) >= IDENTITIES_LEN_MAX:
            self._identities.clear()
        identity = self._identities[task.task_id] = (
            field(b"\x1a", task.task_id.encode())
            + self._kinship(task.task_type, task.tenant, task.submitter_id)
            + field(b"\x52", task.traceparent.encode())
        )
        return identity

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
        root_task_id: str = "",
        depth: int = 0,
    ) -> Created:
        """Return the facts of a task whose defaults are filled in; `spec` is spoiled by it."""
        payload = spec.payload.SerializeToString()
        schedule_id, schedule_ms = spec.schedule_id, 0
        if schedule_id:
            schedule_ms = spec.schedule_time.ToMilliseconds()
            spec.ClearField("schedule_id")
            spec.ClearField("schedule_time")
        traceparent, request_id = spec.traceparent, spec.request_id
        for name in ("payload", "traceparent", "request_id"):
            spec.ClearField(name)
        shape = self._shape(spec, spec.SerializeToString(deterministic=True))
        origin = shape.origin
        if schedule_id or root_task_id:
            parent_id = origin.parent_task_id
            origin = Origin(parent_id, root_task_id, depth, schedule_id, schedule_ms)
        return Created(
            shape.task_type,
            shape.tenant,
            shape.capabilities,
            shape.terms,
            shape.depends_on,
            shape.head,
            payload,
            traceparent,
            principal,
            submitter_id,
            request_id,
            spec_hash,
            origin,
        )

    def pack(self, part: dict[str, Any]) -> bytes:
        """Encode a part of a snapshot."""
        return pack(part)

    def unpack(self, packed: bytes) -> dict[str, Any]:
        """Return a part of a snapshot."""
        part: dict[str, Any] = unpack(packed)
        return part

    def _shape(self, spec: task_pb2.TaskSpec, head: bytes) -> _Shape:
        """Return what tasks with this head share, one object for all of them."""
        shape = self._shapes.get(head)
        if shape is None:
            capabilities = tuple(sorted(set(spec.required_capabilities)))
            shape = _Shape(
                spec.type,
                spec.tenant,
                self._capabilities.setdefault(capabilities, capabilities),
                self._read_terms(spec),
                tuple(spec.depends_on),
                head,
                Origin(spec.parent_task_id) if spec.parent_task_id else FROM_CLIENT,
            )
            if len(self._shapes) >= SHAPES_LEN_MAX:
                self._shapes.clear()
                self._capabilities.clear()
            self._shapes[head] = shape
        return shape

    def order(self, order: Order) -> bytes:
        """Encode an order as field 1 of a message."""
        if isinstance(order, Grant):
            return field(_FRAME, field(b"\x12", _grant(order)))
        if isinstance(order, Settled):
            return _settled(*order.lease, order.settlement)
        return field(_FRAME, messages.rare_order(order).SerializeToString())

    def fill_plan(self, message: schedule_pb2.Schedule, plan: facts.Plan) -> None:
        """Write what a schedule does, its payload included."""
        messages.fill_plan(message, plan)

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
            tuple(dict.fromkeys(spec.concurrency_keys)),
            spec.concurrency_limit,
            tuple([_rate(one) for one in spec.rate_limits]),
            spec.deadline_after.ToMilliseconds() if spec.HasField("deadline_after") else 0,
            spec.delay.ToMilliseconds() if spec.HasField("delay") else 0,
        )


def _rate(message: task_pb2.RateLimit) -> facts.RateLimit:
    return facts.RateLimit(message.key, message.limit, message.period.ToMilliseconds())


def _policy(message: bytes) -> RetryPolicy:
    policy = task_pb2.RetryPolicy.FromString(message)
    return RetryPolicy(
        policy.max_retries,
        policy.initial_backoff.ToMilliseconds(),
        policy.backoff_multiplier,
        policy.max_backoff.ToMilliseconds(),
        policy.jitter,
    )


def _kinship(task_type: str, tenant: str, submitter_id: str) -> bytes:
    """Return what the events of all tasks of a type, tenant and submitter repeat."""
    kinship = field(b"\x22", task_type.encode()) + field(tag(18), tenant.encode())
    return kinship + field(_SUBMITTER_ID, submitter_id.encode()) if submitter_id else kinship


def _holders(agent_id: str, router_id: str) -> bytes:
    """Return what the events of all leases of an agent at a router repeat."""
    agent = field(b"\x42", agent_id.encode()) if agent_id else b""
    return agent + field(b"\x4a", router_id.encode()) if router_id else agent


@lru_cache(1_024)
def _asker(principal: str, submitter_id: str) -> bytes:
    """Return what the first events of all tasks of a submitter repeat."""
    return field(b"\x12", principal.encode()) + field(b"\x1a", submitter_id.encode())


def _spec(one: Created | Task, payload: bytes) -> bytes:
    """Return a TaskSpec put together again."""
    spec, request_id, traceparent, origin = one.head, one.request_id, one.traceparent, one.origin
    if origin.schedule_id:
        spec += field(_SCHEDULE_ID, origin.schedule_id.encode())
        spec += field(_SCHEDULE_TIME, timestamp(origin.schedule_ms))
    if request_id:
        spec += field(_REQUEST_ID, request_id.encode())
    if traceparent:
        spec += field(_TRACEPARENT, traceparent.encode())
    if payload:
        spec += field(_PAYLOAD, payload)
    return spec


def _created(created: Created) -> tuple[bytes, bytes]:
    rest = _asker(created.principal, created.submitter_id) + field(b"\x22", created.spec_hash)
    if created.origin.root_task_id:
        rest += field(b"\x2a", created.origin.root_task_id.encode())
        rest += b"\x30" + varint(created.origin.depth)
    spec = _spec(created, b"")
    lean = field(b"\x5a", field(b"\x0a", spec) + rest)
    if not created.payload:
        return lean, lean
    spec += field(_PAYLOAD, created.payload)
    return field(b"\x5a", field(b"\x0a", spec) + rest), lean


def _started(started: facts.Started) -> tuple[bytes, bytes]:
    latency = duration(started.latency_us)
    body = b"\x12%c%b" % (len(latency), latency)
    if started.decision:
        body += field(b"\x0a", started.decision)
    whole = field(b"\x62", body)
    return whole, whole


def _completed(completed: facts.Completed) -> tuple[bytes, bytes]:
    run, total = duration(completed.run_us), duration(completed.total_us)
    digest = completed.result_hash
    rest = b"\x1a%c%b\x22%c%b\x32%c%b" % (len(run), run, len(total), total, len(digest), digest)
    if completed.usage is not None:
        rest += field(b"\x12", messages.usage_bytes(completed.usage))
    if completed.confidence is not None:
        rest += double(b"\x29", completed.confidence)
    # An empty result is still a result: the field is there.
    return field(b"\x72", field(b"\x0a", completed.result) + rest), field(b"\x72", rest)


def _message(detail: facts.Detail) -> tuple[bytes, bytes]:
    whole, lean = messages.rare_detail(detail)
    encoded = whole.SerializeToString()
    return encoded, encoded if lean is whole else lean.SerializeToString()


_DETAIL: dict[type, Callable[[Any], tuple[bytes, bytes]]] = {
    facts.Created: _created,
    facts.Started: _started,
    facts.Completed: _completed,
    facts.Progress: _message,
    facts.Failed: _message,
    facts.Retrying: _message,
    facts.Input: _message,
    facts.Revived: _message,
    facts.QueuePause: _message,
    facts.LettersDropped: _message,
    facts.ScheduleChange: _message,
}


def _settled(task_id: str, epoch: int, settlement: Settlement) -> bytes:
    of, number = task_id.encode(), varint(epoch)
    head = _settled_head(len(of), len(number))
    return b"".join((head, of, b"\x10", number, _SETTLEMENT[settlement]))


@lru_cache(256)
def _settled_head(id_len: int, number_len: int) -> bytes:
    """Return what stands before the id of the lease: nothing but lengths."""
    lease_len = 3 + id_len + number_len
    body_len = 4 + lease_len
    return b"\x0a%c\x1a%c\x0a%c\x0a%c" % (body_len + 2, body_len, lease_len, id_len)


def _grant(grant: Grant) -> bytes:
    task = grant.task
    parts = [
        field(b"\x0a", task.task_id.encode()),
        b"\x10",
        varint(grant.lease_epoch),
        b"\x18",
        varint(task.attempt + 1),
        field(b"\x22", _spec(task, task.payload)),
        b"\x28",
        varint(grant.class_id),
    ]
    if task.excluded:
        parts += [field(b"\x32", agent_id.encode()) for agent_id in task.excluded]
    if task.checkpoint:
        parts.append(field(b"\x3a", task.checkpoint))
    if task.input:
        parts.append(field(b"\x42", task.input))
    parts.append(field(b"\x4a", timestamp(task.queued_ms)))
    if grant.sticky_agent_id:
        parts.append(field(b"\x52", grant.sticky_agent_id.encode()))
    return b"".join(parts)
