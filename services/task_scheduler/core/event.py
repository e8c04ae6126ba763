"""Events: the facts of the log, as plain records.

Payloads, results and decisions are bytes that the core passes on and never opens.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from services.task_scheduler.core.retry import RetryPolicy
from services.task_scheduler.core.states import Kind

TOKENS_MAX = (1 << 53) - 1
"""What JSON holds exactly; the log and the wire hold more."""
COST_MAX = 1e300


class Usage(NamedTuple):
    """What an agent says it consumed."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0

    @property
    def tokens(self) -> int:
        """Tokens in and out."""
        return self.input_tokens + self.output_tokens

    def plus(self, other: Usage) -> Usage:
        """Return the sum, no part of it beyond what can be told."""
        return Usage(
            min(TOKENS_MAX, self.input_tokens + other.input_tokens),
            min(TOKENS_MAX, self.output_tokens + other.output_tokens),
            min(COST_MAX, self.cost + other.cost),
        )


class Failure(NamedTuple):
    """Why an attempt or a task failed."""

    reason: str
    message: str
    retryable: bool = False


class RateLimit(NamedTuple):
    """At most so many starts under a key in a period, wherever that begins."""

    key: str
    limit: int
    period_ms: int


class Terms(NamedTuple):
    """What a task asks for beside its work; most tasks share one instance."""

    priority: int = 5
    policy: RetryPolicy = RetryPolicy()
    attempt_timeout_ms: int = 0
    """0 = no limit."""
    deadline_ms: int = 0
    """Wall time; 0 = never."""
    not_before_ms: int = 0
    """Wall time; 0 = at once."""
    skip_on_failed_dependency: bool = False
    max_cost: float = 0.0
    """0 = no limit."""
    max_tokens: int = 0
    """0 = no limit."""
    sticky_key: str = ""
    concurrency_keys: tuple[str, ...] = ()
    concurrency_limit: int = 0
    """Tasks that may run under each key, where the settings do not say; 0 = 1."""
    rate_limits: tuple[RateLimit, ...] = ()
    deadline_after_ms: int = 0
    """Of what is asked for, or a schedule's: from when the task is made to its deadline."""
    delay_ms: int = 0
    """Likewise, from when it is made to when it may be queued."""

    def dated(self, wall_ms: int) -> Terms:
        """Return them with times instead of spans, counted from a wall time."""
        dated, after_ms, delay_ms = self, self.deadline_after_ms, self.delay_ms
        if after_ms:
            dated = dated._replace(deadline_ms=wall_ms + after_ms, deadline_after_ms=0)
        if delay_ms:
            dated = dated._replace(not_before_ms=wall_ms + delay_ms, delay_ms=0)
        return dated

    def spent(self, usage: Usage) -> bool:
        """Whether nothing of the budget is left."""
        return 0 < self.max_cost <= usage.cost or 0 < self.max_tokens <= usage.tokens

    def exceeded(self, usage: Usage) -> bool:
        """Whether more than the budget was used."""
        return 0 < self.max_cost < usage.cost or 0 < self.max_tokens < usage.tokens


class Origin(NamedTuple):
    """Where a task comes from, when not from a client that submitted it for itself."""

    parent_task_id: str = ""
    root_task_id: str = ""
    """The first task of its lineage; empty when it has no parent."""
    depth: int = 0
    """Generations between it and the first task of its lineage."""
    schedule_id: str = ""
    schedule_ms: int = 0
    """The time for which its schedule made it; 0 = no schedule did."""


FROM_CLIENT = Origin()


class Created(NamedTuple):
    """A task as accepted, defaults filled in."""

    task_type: str
    tenant: str
    capabilities: tuple[str, ...]
    """The required ones, sorted."""
    terms: Terms
    depends_on: tuple[str, ...]
    head: bytes
    """The task as asked for, without payload, request id and traceparent."""
    payload: bytes
    traceparent: str
    principal: str
    submitter_id: str
    request_id: str
    spec_hash: bytes
    """Of the task as received, when it has a request id: tells a repeat from a reuse."""
    origin: Origin = FROM_CLIENT


class Started(NamedTuple):
    """An agent took the task."""

    decision: bytes
    latency_us: int
    """From the last time it was queued."""


class Progress(NamedTuple):
    """What a running agent reported."""

    fraction: float
    message: str
    partial: bytes
    usage: Usage | None
    checkpoint: bytes
    report_seq: int


class Completed(NamedTuple):
    """The task has its result."""

    result: bytes
    usage: Usage | None
    run_us: int
    total_us: int
    confidence: float | None
    result_hash: bytes


class Failed(NamedTuple):
    """An attempt or a task ended without a result, or a lease without an attempt."""

    failure: Failure
    run_us: int = -1
    """-1 = it never started."""
    usage: Usage | None = None
    agent_fault: bool = False
    total_us: int = -1
    """-1 = the task has not ended."""


class Retrying(NamedTuple):
    """The next attempt is due."""

    retry_ms: int
    excluded: tuple[str, ...]


class Input(NamedTuple):
    """A question, an answer, or the payload that replaces a dead letter's."""

    payload: bytes
    run_us: int = -1
    """For a question: from start until it was asked."""
    usage: Usage | None = None
    """For a question: what the attempt consumed."""


class Revived(NamedTuple):
    """A dead letter goes on with another deadline."""

    deadline_ms: int
    payload: bytes | None = None
    """Replaces the payload, unless it is None."""


class QueuePause(NamedTuple):
    """A part of the queue is paused, or goes on."""

    tenant: str
    """Empty = all."""
    task_type: str
    """Empty = all."""
    reason: str = ""


class LettersDropped(NamedTuple):
    """Dead letters were forgotten for want of room."""

    through_seq: int
    """All that died by this event or before it."""
    dropped: int


class Overlap(IntEnum):
    """What happens when the task before has not ended; the numbers are those of the wire."""

    SKIP = 1
    QUEUE = 2
    CANCEL_RUNNING = 3
    ALLOW = 4


class CatchUp(IntEnum):
    """What becomes of times that passed by; the numbers are those of the wire."""

    NONE = 1
    LAST = 2
    ALL = 3


class Firing(IntEnum):
    """What was done at a time a schedule was due; the numbers are those of the wire."""

    CREATED = 1
    SKIPPED_OVERLAP = 2
    SKIPPED_MISSED = 3
    SKIPPED_LIMIT = 4


class Plan(NamedTuple):
    """What a schedule does."""

    schedule_id: str
    cron: str
    time_zone: str
    overlap: Overlap
    catch_up: CatchUp
    window_ms: int
    task: Created
    """The task to make; its principal is who asked for the schedule."""


class ScheduleChange(NamedTuple):
    """Something happened to a schedule."""

    tenant: str
    schedule_id: str
    plan: Plan | None = None
    due_ms: int = 0
    firing: Firing | None = None
    missed: int = 0
    principal: str = ""


Detail = (
    Created
    | Started
    | Progress
    | Completed
    | Failed
    | Retrying
    | Input
    | Revived
    | QueuePause
    | LettersDropped
    | ScheduleChange
)


@dataclass(slots=True)
class Event:
    """One fact of the log; never changed. Of all records the one that is made and read most."""

    seq: int
    kind: Kind
    task_id: str
    wall_ms: int
    lease_epoch: int = 0
    attempt: int = 0
    agent_id: str = ""
    router_id: str = ""
    detail: Detail | None = None
