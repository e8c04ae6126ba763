"""From the tasks of a SubmitTasks request to the core's drafts: checked, defaults filled in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from podium.v1.task_pb2 import DependencyPolicy, Payload, RateLimit, RetryPolicy, TaskSpec
from services.kernel import limits
from services.kernel.auth import Principal
from services.kernel.errors import InvalidArgument, PermissionDenied
from services.kernel.rules import Checker, is_key
from services.kernel.telemetry import (
    format_traceparent,
    is_traceparent,
    new_span_id,
    new_trace_id,
)
from services.kernel.versions import plain
from services.task_scheduler.core.admission import Draft
from services.task_scheduler.core.event import Created
from services.task_scheduler.core.requests import digest
from services.task_scheduler.ports import Codec
from services.task_scheduler.servicer.times import SPAN_S_MIN, check_times

KEY_LEN_MAX = 128
CONCURRENCY_KEYS_LEN_MAX = 4
CONCURRENCY_LIMIT_MAX = 1_000_000
RATE_LIMITS_LEN_MAX = 4
RATE_LIMIT_MAX = 1_000_000
MAX_RETRIES_MAX = 100
PRIORITY = 5
SHAPES_LEN_MAX = 4_096
SHAPE_BYTES_MAX = 1_024
_PLAIN_TYPES = frozenset({"", "application/json", "application/octet-stream", "text/plain"})
OPERATOR = "operator"
UNBOUND = (OPERATOR, "agent", "service")
"""Roles whose capabilities do not say what they may ask for: an agent's say what it offers."""


class Defaults(NamedTuple):
    """What a task gets that does not say."""

    max_retries: int
    initial_backoff_ms: int = 200
    multiplier: float = 2.0
    max_backoff_ms: int = 30_000
    jitter: float = 1.0


class Drafts(NamedTuple):
    """A request's tasks, ready for the core."""

    drafts: list[Draft]
    roots: list[int]
    """Indexes of tasks whose trace begins here."""


class _Shape(NamedTuple):
    """What tasks have in common that differ in payload, request id and trace alone."""

    created: Created
    fail_fast: bool


class Drafter:
    """Checks tasks and fills in what they leave open.

    A client's tasks are mostly alike, so that what is alike is checked and filled in once: by the
    bytes of a task without payload, request id and trace.
    """

    def __init__(self, codec: Codec, defaults: Defaults) -> None:
        self._codec = codec
        self._shapes: dict[tuple[str, bytes], _Shape] = {}
        policy = RetryPolicy(
            max_retries=defaults.max_retries,
            backoff_multiplier=defaults.multiplier,
            jitter=defaults.jitter,
        )
        policy.initial_backoff.FromMilliseconds(defaults.initial_backoff_ms)
        policy.max_backoff.FromMilliseconds(defaults.max_backoff_ms)
        self._policy = policy

    def drafts(
        self, specs: Sequence[TaskSpec], submitter_id: str, principal: Principal, now_ms: int
    ) -> Drafts:
        """Return the drafts of `specs`, which are spoiled by it.

        Raises:
            InvalidArgument: BATCH_TOO_LARGE, PAYLOAD_TOO_LARGE or INVALID_FIELD.
            PermissionDenied: ROLE_MISSING, for the tasks of another tenant, or
                CAPABILITY_NOT_GRANTED.
        """
        if len(specs) > limits.batch_len_max:
            raise InvalidArgument(
                "BATCH_TOO_LARGE",
                f"{len(specs)} tasks in one request, at most {limits.batch_len_max} are taken: "
                "split it.",
                metadata={"batch_len_max": str(limits.batch_len_max)},
            )
        checker = Checker()
        checker.require("tasks", bool(specs), "must hold at least one task")
        checker.key("submitter_id", submitter_id, optional=True, len_max=limits.id_len_max)
        roots: list[int] = []
        drafts: list[Draft] = []
        for index, spec in enumerate(specs):
            draft = self._draft(checker, index, spec, submitter_id, principal, now_ms, roots)
            if draft is not None:
                drafts.append(draft)
        checker.done()
        if principal.capabilities and not any(map(principal.may, UNBOUND)):
            _check_granted(drafts, principal)
        return Drafts(drafts, roots)

    def recurring(self, spec: TaskSpec, own_key: str, principal: Principal, now_ms: int) -> Draft:
        """Return the draft of a schedule's task, which is spoiled by it.

        Args:
            spec: The task.
            own_key: A concurrency key that it gets beside its own; empty = none.
            principal: Who asks for it.
            now_ms: The time.

        Raises:
            InvalidArgument: As `drafts`, as if it were the only one of a batch.
            PermissionDenied: As `drafts`.
        """
        asked = TaskSpec()
        asked.CopyFrom(spec)
        drafts = self.drafts([asked], "", principal, now_ms).drafts
        if own_key:
            asked.CopyFrom(spec)
            asked.tenant = drafts[0].created.tenant
            asked.concurrency_keys.append(own_key)
            self._fill(asked)
            created = self._codec.created(asked, principal=principal.subject)
            return Draft(created)
        return Draft(drafts[0].created)

    def granted(self, created: Created, principal: Principal) -> None:
        """Check that a caller may ask for a task that is known already.

        Raises:
            PermissionDenied: CAPABILITY_NOT_GRANTED.
        """
        if principal.capabilities and not any(map(principal.may, UNBOUND)):
            _check_granted([Draft(created)], principal)

    def _draft(
        self,
        checker: Checker,
        index: int,
        spec: TaskSpec,
        submitter_id: str,
        principal: Principal,
        now_ms: int,
        roots: list[int],
    ) -> Draft | None:
        """Return a draft, or None when the checker has found a fault."""
        asked = spec.payload
        payload = asked.SerializeToString()
        if len(payload) > limits.payload_bytes_max or asked.content_type not in _PLAIN_TYPES:
            _check_payload(checker, index, asked)
        request_id, traceparent = spec.request_id, spec.traceparent
        spec.ClearField("payload")
        if traceparent:
            spec.ClearField("traceparent")
            if not is_traceparent(traceparent):
                checker.fault(f"tasks[{index}].traceparent", "must be a W3C traceparent")
        else:
            traceparent = format_traceparent(new_trace_id(), new_span_id())
            roots.append(index)
        if request_id:
            spec.ClearField("request_id")
            if not is_key(request_id, limits.id_len_max):
                checker.key(f"tasks[{index}].request_id", request_id, len_max=limits.id_len_max)
        shape_bytes = spec.SerializeToString(deterministic=True)
        shape = self._shape(checker, index, spec, shape_bytes, principal, now_ms)
        if shape is None:
            return None
        spec_hash = b""
        if request_id:
            # Of the task as asked for: defaults may change, and a repeat may have a new trace.
            # Its length goes first, so that no two pairs of shape and payload join to the same.
            whole = b"%d;%b%b" % (len(shape_bytes), shape_bytes, payload)
            spec_hash = digest(whole)
        made = shape.created
        created = Created(
            made.task_type,
            made.tenant,
            made.capabilities,
            made.terms,
            made.depends_on,
            made.head,
            payload,
            traceparent,
            principal.subject,
            submitter_id,
            request_id,
            spec_hash,
            made.origin,
        )
        return Draft(created, shape.fail_fast)

    def _shape(
        self,
        checker: Checker,
        index: int,
        spec: TaskSpec,
        shape_bytes: bytes,
        principal: Principal,
        now_ms: int,
    ) -> _Shape | None:
        key = (principal.tenant, shape_bytes)
        shape = self._shapes.get(key)
        if shape is not None and (not spec.tenant or _may_submit_for(spec.tenant, principal)):
            return shape
        _check(checker, f"tasks[{index}].", spec, now_ms)
        if not checker:
            return None
        if not spec.tenant:
            spec.tenant = principal.tenant
        elif not _may_submit_for(spec.tenant, principal):
            raise PermissionDenied(
                "ROLE_MISSING",
                f"tasks[{index}] belongs to another tenant: that needs the role {OPERATOR}.",
                metadata={"role": OPERATOR},
            )
        timed = spec.HasField("deadline") or spec.HasField("not_before")
        for output_only in ("schedule_id", "schedule_time"):
            spec.ClearField(output_only)
        self._fill(spec)
        shape = _Shape(self._codec.created(spec), spec.fail_fast)
        if not timed and len(shape_bytes) <= SHAPE_BYTES_MAX:
            # A time is checked against now, each time.
            if len(self._shapes) >= SHAPES_LEN_MAX:
                self._shapes.clear()
            self._shapes[key] = shape
        return shape

    def _fill(self, spec: TaskSpec) -> None:
        if not spec.required_capabilities:
            spec.required_capabilities.append(spec.type)
        if not spec.HasField("priority"):
            spec.priority = PRIORITY
        if not spec.size_hint:
            spec.size_hint = 1.0
        if not spec.HasField("retry_policy"):
            spec.retry_policy.CopyFrom(self._policy)
            return
        policy, default = spec.retry_policy, self._policy
        if not policy.HasField("max_retries"):
            policy.max_retries = default.max_retries
        if not policy.HasField("initial_backoff"):
            policy.initial_backoff.CopyFrom(default.initial_backoff)
        if not policy.HasField("max_backoff"):
            policy.max_backoff.CopyFrom(default.max_backoff)
        if not policy.HasField("jitter"):
            policy.jitter = default.jitter
        policy.backoff_multiplier = policy.backoff_multiplier or default.backoff_multiplier


def _may_submit_for(tenant: str, principal: Principal) -> bool:
    return tenant == principal.tenant or principal.may(OPERATOR)


def _check_granted(drafts: Sequence[Draft], principal: Principal) -> None:
    """Refuse tasks that need what the caller's token, which names capabilities, does not."""
    for index, draft in enumerate(drafts):
        for name in draft.created.capabilities:
            if plain(name) not in principal.capabilities:
                raise PermissionDenied(
                    "CAPABILITY_NOT_GRANTED",
                    f"tasks[{index}] requires {name}, which the caller's token does not grant.",
                    metadata={"index": str(index), "capability": name},
                )


def _check_payload(checker: Checker, index: int, payload: Payload) -> None:
    if len(payload.data) > limits.payload_bytes_max:
        raise InvalidArgument(
            "PAYLOAD_TOO_LARGE",
            f"tasks[{index}].payload has {len(payload.data)} bytes, at most "
            f"{limits.payload_bytes_max} are taken: store it elsewhere and submit a reference.",
            metadata={"index": str(index), "payload_bytes_max": str(limits.payload_bytes_max)},
        )
    if payload.content_type not in _PLAIN_TYPES:
        path = f"tasks[{index}].payload.content_type"
        checker.text(path, payload.content_type, limits.name_len_max)


def _check(checker: Checker, at: str, spec: TaskSpec, now_ms: int) -> None:
    checker.capability(at + "type", spec.type)
    if spec.required_capabilities:
        checker.requirements(at + "required_capabilities", spec.required_capabilities)
    if spec.preferred_capabilities:
        checker.requirements(at + "preferred_capabilities", spec.preferred_capabilities)
    checker.integer(at + "priority", spec.priority, 0, 9)
    checker.key(at + "tenant", spec.tenant, optional=True)
    if spec.labels:
        checker.labels(at + "labels", spec.labels)
    checker.finite(at + "size_hint", spec.size_hint, 0.0, 1e12)
    _check_rare(checker, at, spec, now_ms)


def _check_rare(checker: Checker, at: str, spec: TaskSpec, now_ms: int) -> None:
    if spec.HasField("retry_policy"):
        _check_policy(checker, at + "retry_policy.", spec.retry_policy)
    if spec.HasField("attempt_timeout"):
        checker.duration(at + "attempt_timeout", spec.attempt_timeout, 0.001)
    check_times(checker, at, spec, now_ms)
    if spec.HasField("budget"):
        checker.finite(at + "budget.max_cost", spec.budget.max_cost, 0.0, 1e12)
        checker.integer(at + "budget.max_tokens", spec.budget.max_tokens, 0, 1 << 53)
    if spec.depends_on:
        checker.length(at + "depends_on", len(spec.depends_on), limits.capabilities_len_max)
        for place, task_id in enumerate(spec.depends_on):
            checker.identifier(f"{at}depends_on[{place}]", task_id)
    checker.require(
        at + "dependency_policy",
        spec.dependency_policy in DependencyPolicy.values(),
        "must be FAIL or SKIP",
    )
    checker.text(at + "sticky_key", spec.sticky_key, KEY_LEN_MAX)
    checker.identifier(at + "parent_task_id", spec.parent_task_id, optional=True)
    if spec.concurrency_keys:
        checker.length(
            at + "concurrency_keys", len(spec.concurrency_keys), CONCURRENCY_KEYS_LEN_MAX
        )
        for place, key in enumerate(spec.concurrency_keys):
            checker.key(f"{at}concurrency_keys[{place}]", key)
    checker.integer(at + "concurrency_limit", spec.concurrency_limit, 0, CONCURRENCY_LIMIT_MAX)
    _check_rates(checker, at + "rate_limits", spec.rate_limits)


def _check_rates(checker: Checker, at: str, asked: Sequence[RateLimit]) -> None:
    checker.length(at, len(asked), RATE_LIMITS_LEN_MAX)
    seen = set()
    for place, one in enumerate(asked[:RATE_LIMITS_LEN_MAX]):
        path = f"{at}[{place}]"
        checker.key(path + ".key", one.key)
        checker.integer(path + ".limit", one.limit, 1, RATE_LIMIT_MAX)
        if checker.duration(path + ".period", one.period, SPAN_S_MIN):
            name = (one.key, one.period.ToMilliseconds())
            checker.require(path, name not in seen, "must not repeat a key with its period")
            seen.add(name)


def _check_policy(checker: Checker, at: str, policy: RetryPolicy) -> None:
    checker.integer(at + "max_retries", policy.max_retries, 0, MAX_RETRIES_MAX)
    checker.duration(at + "initial_backoff", policy.initial_backoff)
    checker.duration(at + "max_backoff", policy.max_backoff)
    if policy.backoff_multiplier:
        checker.finite(at + "backoff_multiplier", policy.backoff_multiplier, 1.0, 10.0)
    checker.finite(at + "jitter", policy.jitter, 0.0, 1.0)
