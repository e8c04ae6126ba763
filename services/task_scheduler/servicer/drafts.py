"""From the tasks of a SubmitTasks request to the core's drafts: checked, defaults filled in."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from podium.v1.task_pb2 import DependencyPolicy, RetryPolicy, TaskSpec
from services.kernel import limits
from services.kernel.auth import Principal
from services.kernel.errors import InvalidArgument, PermissionDenied
from services.kernel.rules import Checker
from services.kernel.telemetry import (
    format_traceparent,
    new_span_id,
    new_trace_id,
    parse_traceparent,
)
from services.task_scheduler.core.admission import Draft
from services.task_scheduler.ports import Codec

KEY_LEN_MAX = 128
CONCURRENCY_KEYS_LEN_MAX = 4
MAX_RETRIES_MAX = 100
NOT_BEFORE_S_MAX = 366 * 24 * 3600.0
PRIORITY = 5
OPERATOR = "operator"


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


class Drafter:
    """Checks tasks and fills in what they leave open."""

    def __init__(self, codec: Codec, defaults: Defaults) -> None:
        self._codec = codec
        policy = RetryPolicy(
            max_retries=defaults.max_retries,
            backoff_multiplier=defaults.multiplier,
            jitter=defaults.jitter,
        )
        policy.initial_backoff.FromMilliseconds(defaults.initial_backoff_ms)
        policy.max_backoff.FromMilliseconds(defaults.max_backoff_ms)
        self._policy = policy

    def drafts(
        self, specs: list[TaskSpec], submitter_id: str, principal: Principal, now_ms: int
    ) -> Drafts:
        """Return the drafts of `specs`, which are spoiled by it.

        Raises:
            InvalidArgument: BATCH_TOO_LARGE, PAYLOAD_TOO_LARGE or INVALID_FIELD.
            PermissionDenied: ROLE_MISSING, for the tasks of another tenant.
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
        checker.key("submitter_id", submitter_id, optional=True)
        checker.length("submitter_id", len(submitter_id), limits.id_len_max)
        for index, spec in enumerate(specs):
            _check(checker, f"tasks[{index}].", index, spec, now_ms)
        checker.done()
        roots: list[int] = []
        drafts = [
            self._draft(index, spec, submitter_id, principal, roots)
            for index, spec in enumerate(specs)
        ]
        return Drafts(drafts, roots)

    def _draft(
        self, index: int, spec: TaskSpec, submitter_id: str, principal: Principal, roots: list[int]
    ) -> Draft:
        traceparent = spec.traceparent
        if traceparent:
            spec.ClearField("traceparent")
        spec_hash = b""
        if spec.request_id:
            # Of the task as asked for: defaults may change, and a repeat may have a new trace.
            asked = spec.SerializeToString(deterministic=True)
            spec_hash = hashlib.blake2b(asked, digest_size=16).digest()
        if not traceparent:
            traceparent = format_traceparent(new_trace_id(), new_span_id())
            roots.append(index)
        spec.traceparent = traceparent
        if not spec.tenant:
            spec.tenant = principal.tenant
        elif spec.tenant != principal.tenant and not principal.may(OPERATOR):
            raise PermissionDenied(
                "ROLE_MISSING",
                f"tasks[{index}] belongs to another tenant: that needs the role {OPERATOR}.",
                metadata={"role": OPERATOR},
            )
        self._fill(spec)
        created = self._codec.created(
            spec,
            principal=principal.subject,
            submitter_id=submitter_id,
            spec_hash=spec_hash,
        )
        return Draft(created, spec.fail_fast)

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


def _check(checker: Checker, at: str, index: int, spec: TaskSpec, now_ms: int) -> None:
    checker.capability(at + "type", spec.type)
    if len(spec.payload.data) > limits.payload_bytes_max:
        raise InvalidArgument(
            "PAYLOAD_TOO_LARGE",
            f"tasks[{index}].payload has {len(spec.payload.data)} bytes, at most "
            f"{limits.payload_bytes_max} are taken: store it elsewhere and submit a reference.",
            metadata={"index": str(index), "payload_bytes_max": str(limits.payload_bytes_max)},
        )
    checker.text(at + "payload.content_type", spec.payload.content_type, limits.name_len_max)
    if spec.required_capabilities:
        checker.capabilities(at + "required_capabilities", spec.required_capabilities)
    if spec.preferred_capabilities:
        checker.capabilities(at + "preferred_capabilities", spec.preferred_capabilities)
    checker.integer(at + "priority", spec.priority, 0, 9)
    checker.key(at + "tenant", spec.tenant, optional=True)
    if spec.labels:
        checker.labels(at + "labels", spec.labels)
    if spec.request_id:
        checker.key(at + "request_id", spec.request_id)
        checker.length(at + "request_id", len(spec.request_id), limits.id_len_max)
    traceparent = spec.traceparent
    if traceparent and parse_traceparent(traceparent) is None:
        checker.fault(at + "traceparent", "must be a W3C traceparent")
    checker.finite(at + "size_hint", spec.size_hint, 0.0, 1e12)
    _check_rare(checker, at, spec, now_ms)


def _check_rare(checker: Checker, at: str, spec: TaskSpec, now_ms: int) -> None:
    if spec.HasField("retry_policy"):
        _check_policy(checker, at + "retry_policy.", spec.retry_policy)
    if spec.HasField("attempt_timeout"):
        checker.duration(at + "attempt_timeout", spec.attempt_timeout, 0.001)
    if spec.HasField("deadline"):
        _check_time(checker, at + "deadline", spec.deadline, now_ms, limits.deadline_s_max)
        checker.require(
            at + "deadline", spec.deadline.seconds * 1000 > now_ms - 1000, "must lie ahead"
        )
    if spec.HasField("not_before"):
        _check_time(checker, at + "not_before", spec.not_before, now_ms, NOT_BEFORE_S_MAX)
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


def _check_policy(checker: Checker, at: str, policy: RetryPolicy) -> None:
    checker.integer(at + "max_retries", policy.max_retries, 0, MAX_RETRIES_MAX)
    checker.duration(at + "initial_backoff", policy.initial_backoff)
    checker.duration(at + "max_backoff", policy.max_backoff)
    if policy.backoff_multiplier:
        checker.finite(at + "backoff_multiplier", policy.backoff_multiplier, 1.0, 10.0)
    checker.finite(at + "jitter", policy.jitter, 0.0, 1.0)


def _check_time(checker: Checker, path: str, time: Timestamp, now_ms: int, ahead_s: float) -> None:
    formed = 0 <= time.nanos <= 999_999_999 and time.seconds >= 0
    checker.require(path, formed, "must be a valid time")
    checker.require(
        path,
        time.seconds * 1000 <= now_ms + ahead_s * 1000,
        f"must be at most {ahead_s / 86_400:g} days ahead",
    )
