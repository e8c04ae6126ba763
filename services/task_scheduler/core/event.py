"""Events: the facts of the log, as plain tuples.

Payloads, results and decisions are bytes that the core passes on and never opens.
"""

from __future__ import annotations

from typing import NamedTuple

from services.task_scheduler.core.retry import RetryPolicy
from services.task_scheduler.core.states import Kind


class Usage(NamedTuple):
    """What an agent says it consumed."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0

    def plus(self, other: Usage) -> Usage:
        """Return the sum."""
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cost + other.cost,
        )


class Failure(NamedTuple):
    """Why an attempt or a task failed."""

    reason: str
    message: str
    retryable: bool = False


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


Detail = Created | Started | Progress | Completed | Failed | Retrying | Input


class Event(NamedTuple):
    """One fact of the log."""

    seq: int
    kind: Kind
    task_id: str
    wall_ms: int
    lease_epoch: int = 0
    attempt: int = 0
    agent_id: str = ""
    router_id: str = ""
    detail: Detail | None = None
