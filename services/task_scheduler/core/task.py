"""The scheduler's record of a task.

A million of them wait at once, so it has slots, shares what is equal and keeps the rest as bytes.
"""

from __future__ import annotations

from typing import NamedTuple

from services.task_scheduler.core.event import Created, Failure, Terms, Usage
from services.task_scheduler.core.lane import Alike, Lane
from services.task_scheduler.core.states import LEASED, TERMINAL, State

ATTEMPTS_LEN_MAX = 128
"""Attempts kept for explanation; a policy allows 101, so only revived dead letters lose any."""
EXCLUDED_LEN_MAX = 16
"""Agents a task avoids; the latest are kept."""
ANSWERS_LEN_MAX = 16
"""Questions of which it is known how they were answered; the latest are kept."""


_NEW = State.NEW

SHOWN_DELAYED = 1
SHOWN_BLOCKED = 2


class Lease(NamedTuple):
    """Names one lease. A stale one is refused and changes nothing."""

    task_id: str
    epoch: int


class Attempt:
    """One try on one agent."""

    __slots__ = (
        "agent_id",
        "decision",
        "end_ms",
        "failure",
        "lease_epoch",
        "number",
        "start_ms",
        "usage",
    )

    def __init__(
        self, number: int, lease_epoch: int, agent_id: str, start_ms: int, decision: bytes
    ) -> None:
        self.number = number
        self.lease_epoch = lease_epoch
        self.agent_id = agent_id
        self.start_ms = start_ms
        self.decision = decision
        self.end_ms = 0
        self.failure: Failure | None = None
        self.usage: Usage | None = None


class Task:
    """A task with its state.

    Only events change it, by `Book`; but who relays a live lease and when it was renewed
    (`router_id`, `renewed_s`) are no facts of the log.
    """

    __slots__ = (
        "agent_id",
        "answers",
        "attempt",
        "attempt_s",
        "attempts",
        "charged_s",
        "checkpoint",
        "created_ms",
        "created_s",
        "created_seq",
        "depends_on",
        "end_ms",
        "excluded",
        "failure",
        "failures",
        "fraction",
        "granted_ms",
        "handbacks",
        "head",
        "input",
        "input_request",
        "lane",
        "last_seq",
        "lease_epoch",
        "message",
        "needs",
        "next_ms",
        "open_dependencies",
        "origin",
        "pause_reason",
        "payload",
        "place",
        "principal",
        "queued_ms",
        "queued_s",
        "queued_seq",
        "renewed_s",
        "report_seq",
        "request_id",
        "result",
        "router_id",
        "said_bytes",
        "settled_epoch",
        "settled_hash",
        "start_ms",
        "state",
        "submitter_id",
        "task_id",
        "task_type",
        "tenant",
        "terms",
        "traceparent",
        "usage",
        "usage_before",
    )

    def __init__(
        self,
        task_id: str,
        created: Created,
        seq: int,
        wall_ms: int,
        mono_s: float,
    ) -> None:
        self.task_id = task_id
        self.terms: Terms
        (
            self.task_type,
            self.tenant,
            self.needs,
            self.terms,
            self.depends_on,
            self.head,
            self.payload,
            self.traceparent,
            self.principal,
            self.submitter_id,
            self.request_id,
            _,
            self.origin,
        ) = created
        self.lane: Lane | None = None
        """Where it waits when it is ready; until it ends."""
        self.state = _NEW
        self.created_ms = wall_ms
        self.created_s = mono_s
        self.created_seq = seq
        self.last_seq = seq
        self.open_dependencies = 0
        self.next_ms = 0
        """When the retry or the delayed start is due, in wall time; 0 = nothing is."""
        self.place = 0
        """Its number in the ready queue; 0 = it is not there. Owned by the queue."""
        self.queued_seq = self.queued_ms = 0
        self.queued_s = 0.0
        self.charged_s = 0.0
        """Agent-seconds its tenant was charged with for its lease."""
        self.granted_ms = 0
        """When it was last granted, if it has rates."""
        self._reset_attempts()
        self.result = b""
        self.failure: Failure | None = None
        self.usage: Usage | None = None
        """What it has consumed since it was last revived: that counts against its budget."""
        self.usage_before: Usage | None = None
        """What it had consumed before."""
        self.input = self.input_request = b""
        self.answers: tuple[tuple[int, bytes], ...] = ()
        """Which questions were answered, by their leases, and the hashes of the answers."""
        self.pause_reason = ""
        """Why it was paused last, for people."""
        self.end_ms = 0
        self.attempts: list[Attempt] | tuple[()] = ()
        self.said_bytes = 0
        """What was asked, answered and told, as `weigh` found it last."""

    def _reset_attempts(self) -> None:
        self.attempt = 0
        """Attempts that an agent has started."""
        self.failures = 0
        self.handbacks = 0
        """Leases in a row that agents declined."""
        self.excluded: tuple[str, ...] = ()
        self.agent_id = self.router_id = ""
        self.lease_epoch = self.start_ms = 0
        self.renewed_s = self.attempt_s = 0.0
        self.settled_epoch = 0
        """The last lease that ended with an outcome, and that outcome's hash: tells repeats."""
        self.settled_hash = b""
        self.fraction = 0.0
        self.message = ""
        self.report_seq = 0
        self.checkpoint = b""

    @property
    def ended(self) -> bool:
        """Whether it has a terminal state."""
        return self.state in TERMINAL

    @property
    def alike(self) -> Alike:
        """What it has in common with the tasks of its lane."""
        terms = self.terms
        return (
            self.needs,
            terms.priority,
            self.tenant,
            self.task_type,
            terms.concurrency_keys,
            terms.concurrency_limit,
            terms.rate_limits,
        )

    @property
    def shown_state(self) -> int:
        """The state by the number of the wire contract, which tells why it waits."""
        if self.state is State.CREATED:
            if self.open_dependencies:
                return SHOWN_BLOCKED
            return State.RETRY_WAIT if self.awaits_retry else SHOWN_DELAYED
        return self.state

    @property
    def awaits_retry(self) -> bool:
        """Whether the time that it waits for is that of a retry."""
        return self.next_ms != 0 and self.next_ms != self.terms.not_before_ms

    def holds(self, epoch: int) -> bool:
        """Whether `epoch` is its live lease."""
        return self.lease_epoch == epoch and self.state in LEASED

    @property
    def question_epoch(self) -> int:
        """The lease under which was asked what it waits with; 0 = nothing was."""
        return self.settled_epoch if self.state is State.INPUT_REQUIRED else 0

    @property
    def last_attempt(self) -> Attempt:
        """The attempt that runs or ended last; there must be one."""
        assert self.attempts
        return self.attempts[-1]

    @property
    def total_usage(self) -> Usage | None:
        """What all attempts have consumed."""
        if self.usage is None or self.usage_before is None:
            return self.usage or self.usage_before
        return self.usage_before.plus(self.usage)

    def exclude(self, agent_id: str) -> tuple[str, ...]:
        """Return the agents to avoid, `agent_id` included."""
        if not agent_id or agent_id in self.excluded:
            return self.excluded
        return (*self.excluded, agent_id)[-EXCLUDED_LEN_MAX:]

    def revive(self) -> None:
        """Forget the attempts that failed: they count anew, and so does what it may consume."""
        self._reset_attempts()
        self.usage_before, self.usage = self.total_usage, None
        self.failure = None
        self.end_ms = 0
        self.next_ms = 0

    @property
    def size_bytes(self) -> int:
        """Bytes it carries for others: what they gave, asked, answered and were told."""
        return len(self.head) + len(self.payload) + self.said_bytes

    def weigh(self) -> int:
        """Count anew what was said about it; return by how many bytes it has grown."""
        said_bytes = (
            len(self.result)
            + len(self.checkpoint)
            + len(self.input)
            + len(self.input_request)
            + len(self.message)
            + len(self.pause_reason)
        )
        if self.failure is not None:
            said_bytes += _said(self.failure)
        for one in self.attempts:
            said_bytes += len(one.decision)
            if one.failure is not None:
                said_bytes += _said(one.failure)
        grown_bytes, self.said_bytes = said_bytes - self.said_bytes, said_bytes
        return grown_bytes


def _said(failure: Failure) -> int:
    return len(failure.reason) + len(failure.message)
