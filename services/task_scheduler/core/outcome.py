"""What became of attempts: started, reported on, ended, and what follows.

One accepted outcome per lease: an outcome under a lease that is over is fenced and changes nothing.
"""

from __future__ import annotations

import hashlib

from services.kernel.instant import Instant
from services.task_scheduler.core.book import Book
from services.task_scheduler.core.changes import FAILURE_HASH, QUESTION_HASH
from services.task_scheduler.core.dependents import Dependents
from services.task_scheduler.core.dispatch import Dispatch
from services.task_scheduler.core.event import (
    Completed,
    Failed,
    Failure,
    Input,
    Progress,
    Retrying,
    Started,
    Usage,
)
from services.task_scheduler.core.orders import Orders, Revoke, Settled, Settlement
from services.task_scheduler.core.poison import AGENT_LOST, poison
from services.task_scheduler.core.retry import Draw, backoff_ms
from services.task_scheduler.core.states import Kind, State
from services.task_scheduler.core.task import Lease, Task

RESULT_BYTES_MAX = 256 * 1024 + 512
"""The largest payload with its media type."""
HANDBACKS_MAX = 3
"""Agents that may decline a task in a row before it waits: otherwise it would spin."""

AGENT_GONE = "AGENT_GONE"
"""Hand-back by a router whose agent went before it could take the task."""

LEASE_EXPIRED = Failure("LEASE_EXPIRED", "The agent did not renew its lease in time.", True)
ATTEMPT_TIMEOUT = Failure("ATTEMPT_TIMEOUT", "The attempt ran longer than it may.", True)
AGENT_CANCELED = Failure("AGENT_CANCELED", "The agent stopped without being asked to.", True)
BUDGET_EXCEEDED = Failure("BUDGET_EXCEEDED", "The task has consumed its budget.", False)
RESULT_TOO_LARGE = Failure("RESULT_TOO_LARGE", "The result is larger than 256 KiB.", False)


# Read once, as in `book`.
_ASSIGNED, _START, _COMPLETION = State.ASSIGNED, Kind.STARTED, Kind.COMPLETED
_ACCEPTED = Settlement.ACCEPTED
# A copy is made sooner than a new one.
_blank = hashlib.sha256()


class Outcomes:
    """Takes what routers report about attempts."""

    def __init__(
        self, book: Book, orders: Orders, dispatch: Dispatch, dependents: Dependents, draw: Draw
    ) -> None:
        self._book = book
        self._orders = orders
        self._dispatch = dispatch
        self._dependents = dependents
        self._draw = draw
        self.fenced = 0
        """Outcomes under leases that were over."""

    def started(
        self, router_id: str, lease: Lease, agent_id: str, decision: bytes, now: Instant
    ) -> None:
        """An agent took a task. A repeat changes nothing."""
        task = self._book.holder(lease)
        if task is None:
            self._dispatch.refuse(router_id, lease)
        elif task.state is _ASSIGNED:
            if self._dispatch.speaks_for(router_id, task):
                self._start(task, agent_id, decision, now)
            else:
                self._dispatch.deny(router_id, lease)

    def progressed(
        self, router_id: str, lease: Lease, agent_id: str, progress: Progress, now: Instant
    ) -> None:
        """An agent reported progress; a report that is older than the last is dropped."""
        task = self._held(router_id, lease, agent_id, now)
        if task is None or progress.report_seq <= task.report_seq:
            return
        self._book.record(
            Kind.PROGRESS,
            task,
            now,
            progress,
            lease_epoch=lease.epoch,
            attempt=task.attempt,
            agent_id=agent_id,
            router_id=task.router_id,
        )
        if _exceeds(task, progress.usage):
            # Not to be waited for: what an agent goes on consuming is lost.
            self.fail(task, BUDGET_EXCEEDED, progress.usage, now, agent_fault=False)
            self._orders.send(router_id, Revoke(lease, "BUDGET_EXCEEDED"))

    def asked(
        self,
        router_id: str,
        lease: Lease,
        agent_id: str,
        question: bytes,
        usage: Usage | None,
        now: Instant,
    ) -> None:
        """An agent parks the task until somebody answers; its lease ends."""
        task = self._settling(router_id, lease, agent_id, QUESTION_HASH, now)
        if task is None:
            return
        if _exceeds(task, usage):
            self.fail(task, BUDGET_EXCEEDED, usage, now, agent_fault=False)
            self._orders.send(router_id, Settled(lease, Settlement.REFUSED))
            return
        self._book.record(
            Kind.INPUT_REQUIRED,
            task,
            now,
            Input(question, _us(now.mono_s - task.attempt_s), usage),
            lease_epoch=lease.epoch,
            attempt=task.attempt,
            agent_id=agent_id,
            router_id=task.router_id,
        )
        self._orders.send(router_id, Settled(lease, _ACCEPTED))

    def handed_back(
        self, router_id: str, lease: Lease, reason: str, agent_id: str, now: Instant
    ) -> None:
        """A lease ended without an attempt."""
        task = self._book.holder(lease)
        if task is None:
            return
        if task.state is State.RUNNING:
            # The agent had taken it: what it did is lost, and that is an attempt.
            self.fail(task, AGENT_LOST, None, now, agent_fault=True)
            return
        if reason == AGENT_GONE and task.handbacks:
            # Agent after agent goes as soon as it gets the task: that is what the task does, and
            # without attempts it would do so to all of them.
            self._start(task, agent_id, b"", now)
            self.fail(task, AGENT_LOST, None, now, agent_fault=True)
            return
        self._dispatch.hand_back(task, reason, agent_id, now)
        if task.handbacks > HANDBACKS_MAX:
            self._retry_later(task, task.handbacks - HANDBACKS_MAX, now)

    def completed(
        self,
        router_id: str,
        lease: Lease,
        agent_id: str,
        result: bytes,
        usage: Usage | None,
        confidence: float | None,
        now: Instant,
        *,
        run_s: float | None = None,
        decision: bytes = b"",
    ) -> None:
        """An agent brought a result.

        Args:
            router_id: Who reports it.
            lease: What it was done under.
            agent_id: Who did it.
            result: The payload.
            usage: What it consumed.
            confidence: How sure the agent is.
            now: The time.
            run_s: How long the agent had the task, where the router knows it.
            decision: Why this agent, where the start was not reported by itself.
        """
        hashed = _blank.copy()
        hashed.update(result)
        result_hash = hashed.digest()
        task = self._settling(router_id, lease, agent_id, result_hash, now, decision)
        if task is None:
            return
        if len(result) > RESULT_BYTES_MAX:
            self.fail(task, RESULT_TOO_LARGE, usage, now, agent_fault=False)
            self._orders.send(router_id, Settled(lease, Settlement.REFUSED))
            return
        detail = Completed(
            result,
            usage,
            _run_us(task, run_s, now),
            _us(now.mono_s - task.created_s),
            confidence,
            result_hash,
        )
        self._book.record(
            _COMPLETION,
            task,
            now,
            detail,
            lease.epoch,
            task.attempt,
            task.agent_id,
            task.router_id,
        )
        self._orders.send(router_id, Settled(lease, _ACCEPTED))
        if self._book.waits.affected:
            self._dependents.follow_up(now)

    def failed(
        self,
        router_id: str,
        lease: Lease,
        agent_id: str,
        failure: Failure,
        usage: Usage | None,
        now: Instant,
        *,
        agent_fault: bool,
        run_s: float | None = None,
        decision: bytes = b"",
    ) -> None:
        """An attempt ended without a result; `decision` as for `completed`."""
        task = self._settling(router_id, lease, agent_id, FAILURE_HASH, now, decision)
        if task is not None:
            self.fail(task, failure, usage, now, agent_fault=agent_fault, run_s=run_s)
            self._orders.send(router_id, Settled(lease, _ACCEPTED))

    def fail(
        self,
        task: Task,
        failure: Failure,
        usage: Usage | None,
        now: Instant,
        *,
        agent_fault: bool,
        run_s: float | None = None,
    ) -> None:
        """End the running attempt and decide whether there is another."""
        book = self._book
        run_us = _run_us(task, run_s, now)
        book.record(
            Kind.ATTEMPT_FAILED,
            task,
            now,
            Failed(failure, run_us, usage, agent_fault),
            lease_epoch=task.lease_epoch,
            attempt=task.attempt,
            agent_id=task.agent_id,
            router_id=task.router_id,
        )
        final = self._final(task, failure)
        if final is None:
            self._retry_later(task, task.failures, now)
            return
        total_us = _us(now.mono_s - task.created_s)
        agent_fault = agent_fault and final is failure
        book.record(
            Kind.FAILED,
            task,
            now,
            Failed(final, run_us, usage, agent_fault, total_us),
            attempt=task.attempt,
            agent_id=task.agent_id,
        )
        self._dependents.follow_up(now)

    def run_out(self, task: Task, now: Instant) -> None:
        """A lease was not renewed in time."""
        lease = Lease(task.task_id, task.lease_epoch)
        router_id = task.router_id
        if task.state is _ASSIGNED:
            self._dispatch.hand_back(task, "LEASE_EXPIRED", "", now)
        else:
            self.fail(task, LEASE_EXPIRED, None, now, agent_fault=True)
        self._orders.send(router_id, Revoke(lease, "LEASE_EXPIRED"))

    def time_out(self, task: Task, now: Instant) -> None:
        """An attempt has run longer than it may."""
        lease = Lease(task.task_id, task.lease_epoch)
        router_id = task.router_id
        self.fail(task, ATTEMPT_TIMEOUT, None, now, agent_fault=True)
        self._orders.send(router_id, Revoke(lease, "ATTEMPT_TIMEOUT"))

    def _start(self, task: Task, agent_id: str, decision: bytes, now: Instant) -> None:
        self._book.record(
            _START,
            task,
            now,
            Started(decision, _us(now.mono_s - task.queued_s)),
            task.lease_epoch,
            task.attempt + 1,
            agent_id,
            task.router_id,
        )

    def _held(self, router_id: str, lease: Lease, agent_id: str, now: Instant) -> Task | None:
        """Return the running task of a live lease; a report may overtake the start's."""
        task = self._book.holder(lease)
        if task is None:
            self._dispatch.refuse(router_id, lease)
            return None
        if task.state is _ASSIGNED and self._dispatch.speaks_for(router_id, task):
            self._start(task, agent_id, b"", now)
        elif task.state is _ASSIGNED or task.agent_id != agent_id:
            self._dispatch.deny(router_id, lease)
            return None
        return task

    def _settling(
        self,
        router_id: str,
        lease: Lease,
        agent_id: str,
        outcome_hash: bytes,
        now: Instant,
        decision: bytes = b"",
    ) -> Task | None:
        """Return the running task an outcome ends, or settle the outcome of a dead lease."""
        task = self._book.holder(lease)
        if task is not None:
            if task.state is _ASSIGNED and self._dispatch.speaks_for(router_id, task):
                self._start(task, agent_id, decision, now)
            if task.state is not _ASSIGNED and task.agent_id == agent_id:
                return task
        settlement = self._settled_before(lease, outcome_hash)
        if settlement is not Settlement.DUPLICATE:
            self.fenced += 1
        self._orders.send(router_id, Settled(lease, settlement))
        return None

    def _settled_before(self, lease: Lease, outcome_hash: bytes) -> Settlement:
        """Tell what became of an outcome whose lease is not held."""
        task = self._book.tasks.get(lease.task_id)
        if task is None or lease.epoch > self._book.lease_epoch:
            return Settlement.UNKNOWN
        if task.settled_epoch == lease.epoch:
            if task.settled_hash == outcome_hash:
                return Settlement.DUPLICATE
            if task.state is State.COMPLETED:
                return Settlement.CONFLICT
        return Settlement.FENCED

    def _final(self, task: Task, failure: Failure) -> Failure | None:
        """Return why there is no other attempt, or None when there is."""
        if not failure.retryable:
            return failure
        if task.failures > task.terms.policy.max_retries:
            return poison(task) or failure
        if task.usage is not None and task.terms.spent(task.usage):
            return Failure("BUDGET_EXCEEDED", f"The budget is spent; last: {failure.message}")
        return None

    def _retry_later(self, task: Task, failures: int, now: Instant) -> None:
        wait_ms = backoff_ms(task.terms.policy, failures, self._draw)
        detail = Retrying(now.wall_ms + wait_ms, task.excluded)
        self._book.record(Kind.RETRYING, task, now, detail, attempt=task.attempt)


def _exceeds(task: Task, used: Usage | None) -> bool:
    """Tell whether a running attempt has taken a task beyond its budget."""
    if used is None:
        return False
    return task.terms.exceeded(used if task.usage is None else task.usage.plus(used))


def _run_us(task: Task, run_s: float | None, now: Instant) -> int:
    """Return how long an attempt ran.

    Its start and its end are often reported together, so the router's measure goes before ours; it
    cannot be longer than the task's time since it was queued.
    """
    if run_s is None:
        return _us(now.mono_s - task.attempt_s)
    return _us(min(run_s, now.mono_s - task.queued_s))


def _us(seconds: float) -> int:
    us = round(seconds * 1e6)
    return us if us > 0 else 0
