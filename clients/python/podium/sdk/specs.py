"""Task specifications from plain arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypedDict

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from podium.sdk import payloads
from podium.sdk.errors import InvalidArgument, Violation
from podium.sdk.keys import check_chosen
from podium.v1 import task_pb2


class SubmitOptions(TypedDict, total=False):
    """What can be said about a task beside its type and payload."""

    # Capabilities that the agent must all have, as they are or with the least version, as
    # "text.summarize@2.1". Default: the task's type.
    capabilities: Sequence[str]
    # Capabilities that raise an agent's score without being needed.
    preferred: Sequence[str]
    # 0 (lowest) to 9 (highest). Default 5.
    priority: int
    # For search.
    labels: Mapping[str, str]
    # Idempotency key: the same key with the same task gives the first task, for 24 hours. It may
    # not begin with "podium-retry:", as those do that are made for lost calls and soon forgotten.
    request_id: str
    # Retries after the first attempt, 0 to 100. Default: the profile's.
    max_retries: int
    # The whole policy, instead of max_retries.
    retry_policy: task_pb2.RetryPolicy
    # Longest time for one attempt.
    attempt_timeout_s: float
    # When the task expires: a time, or a span from when the scheduler takes it in.
    deadline: datetime | timedelta
    # When it may begin: a time, or such a span.
    not_before: datetime | timedelta
    # Ids of tasks that must complete first.
    depends_on: Sequence[str]
    # Limits over all attempts.
    max_cost: float
    max_tokens: int
    # Expected work relative to others of its type.
    size_hint: float
    # Tasks with the same key prefer the same agent.
    sticky_key: str
    # Owner, for fairness.
    tenant: str
    # Refuse the task when no connected agent could run it.
    fail_fast: bool
    # The task that created this one.
    parent_task_id: str
    # Keys that each allow only so many running tasks.
    concurrency_keys: Sequence[str]
    # How many may run under each of them, where the scheduler's settings do not say. Default 1.
    concurrency_limit: int
    # Keys under which only so many tasks may start in a time: (key, how many, in which time).
    rate_limits: Sequence[tuple[str, int, timedelta]]
    # What becomes of it when one of depends_on does not complete. Default "fail".
    on_failed_dependency: Literal["fail", "skip"]


_SAME_NAME = frozenset(
    {
        "priority",
        "labels",
        "request_id",
        "retry_policy",
        "depends_on",
        "size_hint",
        "sticky_key",
        "tenant",
        "fail_fast",
        "parent_task_id",
        "concurrency_keys",
        "concurrency_limit",
    }
)


def build(task_type: str, payload: Any, options: SubmitOptions) -> task_pb2.TaskSpec:
    """Returns the specification of a task.

    Raises:
        InvalidArgument: the payload is larger than 256 KiB, or JSON cannot hold it.
        TypeError: there is no such option.
    """
    try:
        encoded = payloads.encode(payload)
    except TypeError as error:
        raise _wrong("payload", f"JSON cannot hold it: {error}") from None
    if len(encoded.data) > payloads.PAYLOAD_BYTES_MAX:
        size = f"{len(encoded.data)} bytes, more than {payloads.PAYLOAD_BYTES_MAX}"
        raise InvalidArgument(
            "PAYLOAD_TOO_LARGE", f"the payload has {size}: pass a reference to it instead"
        )
    spec = task_pb2.TaskSpec(type=task_type, payload=encoded)
    if options:
        _apply(spec, dict(options))
    return spec


def _apply(spec: task_pb2.TaskSpec, options: dict[str, Any]) -> None:
    same = {name: options.pop(name) for name in _SAME_NAME & options.keys()}
    try:
        spec.MergeFrom(task_pb2.TaskSpec(**same))
    except (TypeError, ValueError) as error:
        raise _wrong(", ".join(sorted(same)), str(error)) from None
    check_chosen(spec.request_id)
    spec.required_capabilities.extend(options.pop("capabilities", ()))
    spec.preferred_capabilities.extend(options.pop("preferred", ()))
    spec.dependency_policy = _policy(options.pop("on_failed_dependency", "fail"))
    if "max_retries" in options:
        spec.retry_policy.max_retries = options.pop("max_retries")
    if timeout_s := options.pop("attempt_timeout_s", 0.0):
        spec.attempt_timeout.CopyFrom(duration(timeout_s))
    if "deadline" in options:
        _set_when(options.pop("deadline"), spec.deadline, spec.deadline_after)
    if "not_before" in options:
        _set_when(options.pop("not_before"), spec.not_before, spec.delay)
    for key, limit, period in options.pop("rate_limits", ()):
        spec.rate_limits.append(_rate(key, limit, period))
    if "max_cost" in options:
        spec.budget.max_cost = options.pop("max_cost")
    if "max_tokens" in options:
        spec.budget.max_tokens = options.pop("max_tokens")
    if options:
        raise TypeError(f"no such option: {', '.join(sorted(options))}")


def _set_when(when: datetime | timedelta, time: Timestamp, span: Duration) -> None:
    """Writes a time, or a span as it is: so the same call again is the same task."""
    if isinstance(when, timedelta):
        span.FromTimedelta(when)
    else:
        time.CopyFrom(timestamp(when))


def _rate(key: str, limit: int, period: timedelta) -> task_pb2.RateLimit:
    try:
        rate = task_pb2.RateLimit(key=key, limit=limit)
        rate.period.FromTimedelta(period)
    except (AttributeError, TypeError, ValueError) as error:
        raise _wrong("rate_limits", f"must be (key, number, timedelta): {error}") from None
    return rate


def _policy(name: str) -> task_pb2.DependencyPolicy:
    known = {
        "fail": task_pb2.DEPENDENCY_POLICY_UNSPECIFIED,
        "skip": task_pb2.DEPENDENCY_POLICY_SKIP,
    }
    if name not in known:
        raise _wrong("on_failed_dependency", f"must be one of {', '.join(known)}")
    return known[name]


def duration(seconds: float) -> Duration:
    """Returns a Duration of so many seconds."""
    message = Duration()
    message.FromNanoseconds(round(seconds * 1e9))
    return message


def timestamp(when: datetime | timedelta) -> Timestamp:
    """Returns a time, or a span from now, as a message.

    Raises:
        InvalidArgument: a time without a zone.
    """
    if isinstance(when, timedelta):
        # The one thing here that depends on the wall clock, as does what the caller asks for.
        message = Timestamp()
        message.GetCurrentTime()
        when = message.ToDatetime(tzinfo=UTC) + when
    elif when.tzinfo is None:
        raise _wrong("deadline, not_before", "a time needs a time zone")
    message = Timestamp()
    message.FromDatetime(when)
    return message


def _wrong(field: str, why: str) -> InvalidArgument:
    return InvalidArgument(
        "INVALID_FIELD", "the task is not valid", violations=[Violation(field, why)]
    )
