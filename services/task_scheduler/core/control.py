"""What people and clocks do to tasks: cancel, expire, requeue, answer."""

from __future__ import annotations

from services.kernel.errors import FailedPrecondition, NotFound
from services.kernel.instant import Instant
from services.task_scheduler.core.book import Book
from services.task_scheduler.core.event import Failed, Failure, Input
from services.task_scheduler.core.orders import Orders, Revoke
from services.task_scheduler.core.outcome import Outcomes
from services.task_scheduler.core.states import LEASED, Kind, State
from services.task_scheduler.core.task import Lease, Task


class Control:
    """Changes tasks from outside their attempts."""

    def __init__(self, book: Book, orders: Orders, outcomes: Outcomes) -> None:
        self._book = book
        self._orders = orders
        self._outcomes = outcomes

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

    def expire(self, task: Task, now: Instant) -> None:
        """End a task whose deadline has passed."""
        self._end(task, Kind.EXPIRED, Failure("EXPIRED", "The deadline has passed."), now)

    def requeue(self, task: Task, payload: bytes | None, now: Instant) -> bool:
        """Revive a dead letter; return False when it is none."""
        if task.state is not State.FAILED:
            return False
        detail = None if payload is None else Input(payload)
        self._book.record(Kind.REQUEUED, task, now, detail)
        return True

    def answer(self, task: Task, answer: bytes, now: Instant) -> None:
        """Answer a task's question; it is queued again.

        Raises:
            FailedPrecondition: INPUT_NOT_REQUIRED.
        """
        if task.state is not State.INPUT_REQUIRED:
            raise FailedPrecondition(
                "INPUT_NOT_REQUIRED",
                f"Task {task.task_id} has asked for nothing: it is {task.state.name}.",
                metadata={"task_id": task.task_id, "state": task.state.name},
            )
        self._book.record(Kind.INPUT_PROVIDED, task, now, Input(answer))

    def _end(self, task: Task, kind: Kind, failure: Failure, now: Instant) -> bool:
        if task.ended:
            return False
        live = task.state in LEASED
        lease = Lease(task.task_id, task.lease_epoch)
        running = task.state is State.RUNNING
        detail = Failed(
            failure,
            max(0, round((now.mono_s - task.attempt_s) * 1e6)) if running else -1,
            total_us=max(0, round((now.mono_s - task.created_s) * 1e6)),
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
        self._outcomes.follow_up(now)
        return True


def not_found(task_id: str) -> NotFound:
    """Return the error for a task that is not in memory, or is not the caller's."""
    return NotFound(
        "TASK_NOT_FOUND",
        f"There is no task {task_id}, or it ended so long ago that it has left memory.",
        metadata={"task_id": task_id},
    )
