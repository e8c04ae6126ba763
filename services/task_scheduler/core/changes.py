"""What each event changes about its task, beside the state that the table gives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from services.task_scheduler.core.event import (
    FROM_CLIENT,
    Completed,
    Created,
    Event,
    Failed,
    Input,
    Progress,
    Retrying,
    Revived,
    Started,
    Usage,
)
from services.task_scheduler.core.requests import Seen, digest
from services.task_scheduler.core.states import Kind
from services.task_scheduler.core.task import ANSWERS_LEN_MAX, ATTEMPTS_LEN_MAX, Attempt, Task
from services.task_scheduler.core.timers import Purpose

if TYPE_CHECKING:
    from services.task_scheduler.core.book import Book

FAILURE_HASH = b"failure"
"""Stands for the hash of any failure: a repeated failure is a repeat whatever its words."""

QUESTION_HASH = b"question"
"""Likewise for a question."""

UNTAKEN = frozenset({"FREE_ELSEWHERE", "NO_AGENT", "ROUTER_DRAINING"})
"""Reasons of a router that had not offered the task to any agent."""
DECLINED = "NACK_"
"""Begins the reasons of agents that would not take it."""

Change = Callable[["Book", Task, Event, float], None]


def created(book: Book, task: Task, event: Event, mono_s: float) -> None:
    """Remember its request id, and wait for its time and for other tasks."""
    detail = event.detail
    assert isinstance(detail, Created)
    if detail.request_id:
        seen = Seen(task.task_id, detail.spec_hash)
        book.requests.add(detail.principal, detail.request_id, seen, event.wall_ms)
    terms = task.terms
    if terms.deadline_ms:
        _set_deadline(book, task, event, mono_s)
    if terms.not_before_ms > event.wall_ms:
        _wait_until(book, task, terms.not_before_ms, event, mono_s)
    if detail.depends_on or task.origin is not FROM_CLIENT:
        book.wait_for_others(task)


def queued(book: Book, task: Task, event: Event, mono_s: float) -> None:
    """Take a new place in the queue, and wait for nothing else."""
    if task.open_dependencies:
        # Earlier versions queued tasks of a schedule before it was their turn.
        book.waits.drop(task)
    task.next_ms = 0
    task.queued_seq = event.seq
    task.queued_ms = event.wall_ms
    task.queued_s = mono_s


def assigned(book: Book, task: Task, event: Event, mono_s: float) -> None:
    """Begin a lease, and charge the tenant for it."""
    book.lease_epoch = task.lease_epoch = event.lease_epoch
    task.router_id = event.router_id
    task.renewed_s = mono_s
    book.leases[event.lease_epoch] = task
    lane = task.lane
    assert lane is not None
    task.charged_s = lane.share.charge(task.task_type)
    if lane.bounds:
        book.queue.hold(lane)
        if lane.rates:
            book.queue.start(lane, mono_s, event.wall_ms)
            task.granted_ms = event.wall_ms


def started(book: Book, task: Task, event: Event, mono_s: float) -> None:
    """Begin an attempt."""
    detail = event.detail
    assert isinstance(detail, Started)
    task.attempt = event.attempt
    task.attempt_s = mono_s
    task.agent_id = event.agent_id
    task.handbacks = 0
    task.fraction, task.message, task.report_seq = 0.0, "", 0
    task.start_ms = task.start_ms or event.wall_ms
    attempt = Attempt(
        event.attempt, event.lease_epoch, event.agent_id, event.wall_ms, detail.decision
    )
    if not task.attempts:
        task.attempts = [attempt]
    else:
        task.attempts = [*task.attempts[1 - ATTEMPTS_LEN_MAX :], attempt]
    if task.terms.attempt_timeout_ms:
        due_s = mono_s + task.terms.attempt_timeout_ms / 1000
        book.timers.set(due_s, task, Purpose.ATTEMPT, event.lease_epoch)


def progressed(book: Book, task: Task, event: Event, mono_s: float) -> None:
    """Note how far it is."""
    progress = event.detail
    assert isinstance(progress, Progress)
    task.fraction = progress.fraction
    task.message = progress.message
    task.report_seq = progress.report_seq
    if progress.usage is not None:
        # The task's sum takes it in when the attempt ends, however it ends.
        task.last_attempt.usage = progress.usage
    if progress.checkpoint:
        task.checkpoint = progress.checkpoint


def asked(book: Book, task: Task, event: Event, mono_s: float) -> None:
    """Keep the question."""
    assert isinstance(event.detail, Input)
    task.input_request = event.detail.payload
    _settle(task, event, event.detail.usage, QUESTION_HASH)


def answered(book: Book, task: Task, event: Event, mono_s: float) -> None:
    """Keep the answer, and queue."""
    assert isinstance(event.detail, Input)
    task.input = event.detail.payload
    task.input_request = b""
    given = (task.settled_epoch, answer_hash(task.input))
    task.answers = (*task.answers, given)[-ANSWERS_LEN_MAX:]
    queued(book, task, event, mono_s)


def answer_hash(answer: bytes) -> bytes:
    """Return what tells whether an answer is the same."""
    return digest(answer)


def handed_back(book: Book, task: Task, event: Event, mono_s: float) -> None:
    """Keep the place in the queue: nobody has worked on it."""
    lane, detail = task.lane, event.detail
    assert lane is not None
    if lane.rates and isinstance(detail, Failed):
        reason = detail.failure.reason
        # For any other (the router is gone, the agent does not answer) one may have begun, and the
        # word of it been lost on the way: that is a start.
        if reason in UNTAKEN or reason.startswith(DECLINED):
            book.queue.give_back(lane, task.granted_ms)
    if event.agent_id:
        task.excluded = task.exclude(event.agent_id)
        task.handbacks += 1


def attempt_failed(book: Book, task: Task, event: Event, mono_s: float) -> None:
    """Count a failure, and avoid its agent."""
    detail = event.detail
    assert isinstance(detail, Failed)
    task.failures += 1
    task.failure = detail.failure
    _settle(task, event, detail.usage, FAILURE_HASH)
    task.last_attempt.failure = detail.failure
    task.excluded = task.exclude(event.agent_id)


def retrying(book: Book, task: Task, event: Event, mono_s: float) -> None:
    """Wait for the next attempt."""
    assert isinstance(event.detail, Retrying)
    _wait_until(book, task, event.detail.retry_ms, event, mono_s)


def completed(book: Book, task: Task, event: Event, mono_s: float) -> None:
    """Keep the result, and who is good for the next task of its key."""
    detail = event.detail
    assert isinstance(detail, Completed)
    task.result = detail.result
    task.failure = None
    task.fraction = 1.0
    _settle(task, event, detail.usage, detail.result_hash)
    if task.terms.sticky_key:
        book.sticky.completed(task)


def ended_without_result(book: Book, task: Task, event: Event, mono_s: float) -> None:
    """Keep why."""
    assert isinstance(event.detail, Failed)
    task.failure = event.detail.failure
    _end_attempt(task, event)


def paused(book: Book, task: Task, event: Event, mono_s: float) -> None:
    """End the attempt, if one runs, without a failure, and keep why."""
    assert isinstance(event.detail, Failed)
    task.pause_reason = event.detail.failure.message
    _end_attempt(task, event)


def requeued(book: Book, task: Task, event: Event, mono_s: float) -> None:
    """Begin anew, without a deadline that has passed; BLOCKED follows if it waits for others."""
    task.revive()
    detail = event.detail
    deadline_ms = task.terms.deadline_ms
    if isinstance(detail, Revived):
        deadline_ms = detail.deadline_ms
    if isinstance(detail, Input | Revived) and detail.payload is not None:
        task.payload = detail.payload
    if deadline_ms <= event.wall_ms:
        deadline_ms = 0
    if deadline_ms != task.terms.deadline_ms:
        task.terms = task.terms._replace(deadline_ms=deadline_ms)
        task.head = book.redate(task.head, deadline_ms, 0)
    task.weigh()
    book.open_bytes += task.size_bytes
    book.open(task, new=False)
    queued(book, task, event, mono_s)
    _set_deadline(book, task, event, mono_s)


def blocked(book: Book, task: Task, event: Event, mono_s: float) -> None:
    """Wait for tasks that it depends on, after it was revived."""
    # Those that have ended are let be: whether they are still in memory is no fact of the log.
    book.wait_for_others(task, ended=False)


def _set_deadline(book: Book, task: Task, event: Event, mono_s: float) -> None:
    deadline_ms = task.terms.deadline_ms
    if deadline_ms:
        due_s = mono_s + (deadline_ms - event.wall_ms) / 1000
        book.timers.set(due_s, task, Purpose.DEADLINE, deadline_ms)


def _wait_until(book: Book, task: Task, wall_ms: int, event: Event, mono_s: float) -> None:
    task.next_ms = wall_ms
    due_s = mono_s + (wall_ms - event.wall_ms) / 1000
    book.timers.set(due_s, task, Purpose.QUEUE, wall_ms)


def _settle(task: Task, event: Event, usage: Usage | None, result_hash: bytes) -> None:
    task.settled_epoch = event.lease_epoch
    task.settled_hash = result_hash
    if usage is not None:
        task.last_attempt.usage = usage
    _end_attempt(task, event)


def _end_attempt(task: Task, event: Event) -> None:
    """Note the end of the attempt that runs, if one does, and add up what it consumed."""
    if not task.attempts:
        return
    attempt = task.attempts[-1]
    if attempt.end_ms:
        return
    attempt.end_ms = event.wall_ms
    used = attempt.usage
    if used is not None:
        task.usage = used if task.usage is None else task.usage.plus(used)


CHANGES: dict[Kind, Change] = {
    Kind.CREATED: created,
    Kind.QUEUED: queued,
    Kind.ASSIGNED: assigned,
    Kind.STARTED: started,
    Kind.PROGRESS: progressed,
    Kind.INPUT_REQUIRED: asked,
    Kind.INPUT_PROVIDED: answered,
    Kind.HANDED_BACK: handed_back,
    Kind.ATTEMPT_FAILED: attempt_failed,
    Kind.RETRYING: retrying,
    Kind.COMPLETED: completed,
    Kind.FAILED: ended_without_result,
    Kind.CANCELED: ended_without_result,
    Kind.EXPIRED: ended_without_result,
    Kind.REJECTED: ended_without_result,
    Kind.REQUEUED: requeued,
    Kind.BLOCKED: blocked,
    Kind.PAUSED: paused,
}
"""By kind; RESUMED changes nothing but the state."""
