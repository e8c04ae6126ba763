"""What people and clocks do to tasks: cancel, expire, pause, requeue, answer."""

from __future__ import annotations

from services.kernel.errors import AlreadyExists, FailedPrecondition, NotFound
from services.kernel.instant import Instant
from services.task_scheduler.core import catalog
from services.task_scheduler.core.admission import Admission
from services.task_scheduler.core.book import Book
from services.task_scheduler.core.changes import answer_hash
from services.task_scheduler.core.dependents import Dependents
from services.task_scheduler.core.event import (
    Detail,
    Failed,
    Failure,
    Input,
    QueuePause,
    Revived,
)
from services.task_scheduler.core.orders import Orders, Revoke
from services.task_scheduler.core.pauses import Scope
from services.task_scheduler.core.states import LEASED, PAUSABLE, Kind, State
from services.task_scheduler.core.task import Lease, Task
from services.task_scheduler.core.timers import Purpose


class Control:
    """Changes tasks from outside their attempts."""

    def __init__(
        self, book: Book, orders: Orders, dependents: Dependents, admission: Admission
    ) -> None:
        self._admission = admission
        self._book = book
        self._orders = orders
        self._dependents = dependents

    def find(self, task_id: str) -> Task:
        """Return a task in memory.

        Raises:
            NotFound: TASK_NOT_FOUND.
        """
        task = self._book.tasks.get(task_id)
        if task is None:
            raise not_found(task_id)
        return task

    def cancel(self, task: Task, reason: str, now: Instant) -> bool:
        """Cancel a task; return False when it had ended. The order of the log settles races."""
        return self._end(task, Kind.CANCELED, Failure("CANCELED", reason), now)

    def cancel_descendants(self, task: Task, now: Instant) -> int:
        """Cancel the open tasks that descend from one; return how many."""
        descendants = self._book.lineages.descendants(task.task_id)
        reason = f"Task {task.task_id}, from which it descends, was canceled."
        return sum(self.cancel(descendant, reason, now) for descendant in descendants)

    def expire(self, task: Task, now: Instant) -> None:
        """End a task whose deadline has passed, and tell whether it waited or ran until then."""
        if task.state is State.RUNNING:
            what = f"Agent {task.agent_id} worked on it, in attempt {task.attempt}"
            failure = Failure("DEADLINE_RUNNING", f"{what}, when the deadline passed.")
        else:
            why = catalog.waiting_for(self._book, task)
            failure = Failure("DEADLINE_QUEUED", f"The deadline passed before it was done. {why}")
        self._end(task, Kind.EXPIRED, failure, now)

    def requeue(
        self,
        task: Task,
        payload: bytes | None,
        now: Instant,
        *,
        deadline_ms: int = 0,
        ignore_dependencies: bool = False,
    ) -> bool:
        """Revive a dead letter; return False when it is none.

        Args:
            task: The task.
            payload: Replaces its payload, unless it is None.
            now: The time.
            deadline_ms: Replaces its deadline, in wall time; with 0 it keeps one that lies ahead.
            ignore_dependencies: Let it wait for no other task.

        Raises:
            FailedPrecondition: DEPENDENCY_FAILED or TENANT_CLOSED.
            InvalidArgument: BATCH_TOO_LARGE.
            ResourceExhausted: BACKLOG_FULL or TENANT_BACKLOG_FULL.
        """
        if task.state is not State.FAILED:
            return False
        waits = not ignore_dependencies and (
            self._waits(task) or self._book.schedules.holds_back(task)
        )
        self._admission.readmit(task, payload, now)
        detail: Detail | None = None
        if deadline_ms:
            detail = Revived(deadline_ms, payload)
        elif payload is not None:
            detail = Input(payload)
        self._book.record(Kind.REQUEUED, task, now, detail)
        if waits:
            self._book.record(Kind.BLOCKED, task, now)
        return True

    def _waits(self, task: Task) -> bool:
        """Whether tasks that it depends on are still to be done.

        Raises:
            FailedPrecondition: DEPENDENCY_FAILED, one of them has ended and did not complete.
        """
        waits = False
        for other_id in task.depends_on:
            # Of one that has left memory it is not known how it ended: it holds up nobody.
            other = self._book.tasks.get(other_id)
            if other is None or other.state is State.COMPLETED:
                continue
            if other.ended:
                raise FailedPrecondition(
                    "DEPENDENCY_FAILED",
                    f"Task {task.task_id} depends on task {other_id}, which is "
                    f"{other.state.name}: requeue that one first or with it, or ignore "
                    "dependencies.",
                    metadata={
                        "task_id": task.task_id,
                        "dependency_id": other_id,
                        "state": other.state.name,
                    },
                )
            waits = True
        return waits

    def answer(self, task: Task, answer: bytes, now: Instant, *, epoch: int = 0) -> None:
        """Answer a task's question; it is queued again.

        Args:
            task: The task.
            answer: The answer.
            now: The time.
            epoch: The lease under which it was asked, so that a repeat does nothing; 0 = the last.

        Raises:
            FailedPrecondition: INPUT_NOT_REQUIRED.
            AlreadyExists: QUESTION_ANSWERED, by another answer.
        """
        given = dict(task.answers).get(epoch)
        if given is not None:
            if given != answer_hash(answer):
                raise AlreadyExists(
                    "QUESTION_ANSWERED",
                    f"What task {task.task_id} asked under lease {epoch} has another answer.",
                    metadata={"task_id": task.task_id, "question_epoch": str(epoch)},
                )
            return
        if epoch and epoch != task.question_epoch:
            raise FailedPrecondition(
                "INPUT_NOT_REQUIRED",
                f"Task {task.task_id} does not wait for the answer to anything that was asked "
                f"under lease {epoch}: it is {task.state.name}.",
                metadata={
                    "task_id": task.task_id,
                    "question_epoch": str(epoch),
                    "state": task.state.name,
                },
            )
        if task.state is not State.INPUT_REQUIRED:
            raise FailedPrecondition(
                "INPUT_NOT_REQUIRED",
                f"Task {task.task_id} has asked for nothing: it is {task.state.name}.",
                metadata={"task_id": task.task_id, "state": task.state.name},
            )
        self._book.record(Kind.INPUT_PROVIDED, task, now, Input(answer))

    def pause(self, task: Task, reason: str, now: Instant) -> bool:
        """Hold a task until it is resumed; return False when that is not possible.

        What an agent does is stopped; no attempt has failed by that.
        """
        if task.state not in PAUSABLE:
            return False
        self._stop(task, Kind.PAUSED, Failure("PAUSED", reason), now)
        return True

    def resume(self, task: Task, now: Instant) -> bool:
        """Let a paused task go on; return False when it is none."""
        if task.state is not State.PAUSED:
            return False
        book = self._book
        book.record(Kind.RESUMED, task, now)
        if task.next_ms > now.wall_ms:
            # Set again, since its timer may have gone off while it was paused.
            due_s = now.mono_s + (task.next_ms - now.wall_ms) / 1000
            book.timers.renew(due_s, task, Purpose.QUEUE, task.next_ms)
        elif not task.open_dependencies:
            book.record(Kind.QUEUED, task, now)
        return True

    def pause_queue(self, tenant: str, task_type: str, reason: str, now: Instant) -> None:
        """Grant no more tasks of a tenant, a type or both; a repeat renews the reason."""
        self._book.declare(Kind.QUEUE_PAUSED, QueuePause(tenant, task_type, reason), now)

    def resume_queue(self, tenant: str, task_type: str, now: Instant) -> None:
        """End such a pause.

        Raises:
            NotFound: PAUSE_NOT_FOUND.
        """
        if Scope(tenant, task_type) not in self._book.queue.pauses:
            raise NotFound(
                "PAUSE_NOT_FOUND",
                "Nothing is paused by exactly this tenant and type.",
                metadata={"tenant": tenant, "type": task_type},
            )
        self._book.declare(Kind.QUEUE_RESUMED, QueuePause(tenant, task_type), now)

    def _end(self, task: Task, kind: Kind, failure: Failure, now: Instant) -> bool:
        if task.ended:
            return False
        self._stop(task, kind, failure, now)
        self._dependents.follow_up(now)
        return True

    def _stop(self, task: Task, kind: Kind, failure: Failure, now: Instant) -> None:
        """Record what stops a task, and revoke its lease if it has one."""
        live = task.state in LEASED
        lease = Lease(task.task_id, task.lease_epoch)
        running = task.state is State.RUNNING
        total_us = max(0, round((now.mono_s - task.created_s) * 1e6))
        detail = Failed(
            failure,
            max(0, round((now.mono_s - task.attempt_s) * 1e6)) if running else -1,
            total_us=-1 if kind is Kind.PAUSED else total_us,
        )
        self._book.record(
            kind,
            task,
            now,
            detail,
            lease_epoch=lease.epoch,
            attempt=task.attempt,
            agent_id=task.agent_id if running else "",
            router_id=task.router_id if live else "",
        )
        if live:
            self._orders.send(task.router_id, Revoke(lease, kind.name))


def not_found(task_id: str) -> NotFound:
    """Return the error for a task that is not in memory, or is not the caller's."""
    return NotFound(
        "TASK_NOT_FOUND",
        f"There is no task {task_id}, or it ended so long ago that it has left memory.",
        metadata={"task_id": task_id},
    )
