"""What becomes of tasks when those that they depend on have ended.

Each is judged by how its dependencies stand now, and not by what has ended when: a dead letter that
is revived meanwhile is waited for again.
"""

from __future__ import annotations

from services.kernel.instant import Instant
from services.task_scheduler.core.book import Book
from services.task_scheduler.core.event import Failed, Failure
from services.task_scheduler.core.states import Kind, State
from services.task_scheduler.core.task import Task
from services.task_scheduler.core.timers import Purpose
from services.task_scheduler.core.waits import HELD

FOLLOWED_LEN_MAX = 1_024
"""Tasks that are queued or ended in one step since what they depend on has ended."""


class Dependents:
    """Queues and ends the tasks that have waited for others."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._followed = 0

    def restart(self, now: Instant) -> None:
        """Go on where the log ends, which may be before all was told that follows from an end."""
        waits = self._book.waits
        waits.affected.clear()
        waits.find_affected(self._book.tasks)
        self.follow_up(now)

    def follow_up(self, now: Instant) -> None:
        """Queue or end the tasks that waited for tasks that have ended, and those behind them.

        More than a step has room for are followed up in the next.
        """
        affected = self._book.waits.affected
        while affected and self._followed < FOLLOWED_LEN_MAX:
            self._followed += 1
            self._follow(affected.popleft(), now)

    def end_step(self) -> None:
        """Let as many tasks be followed up again."""
        self._followed = 0

    def fail(self, task: Task, dependency_id: str, now: Instant) -> None:
        """End a task whose dependency did not complete, as it asked for."""
        skip = task.terms.skip_on_failed_dependency
        failure = Failure(
            "DEPENDENCY_SKIPPED" if skip else "DEPENDENCY_FAILED",
            f"Task {dependency_id}, which this one waits for, did not complete.",
        )
        total_us = max(0, round((now.mono_s - task.created_s) * 1e6))
        kind = Kind.CANCELED if skip else Kind.FAILED
        self._book.record(kind, task, now, Failed(failure, total_us=total_us))

    def _follow(self, task: Task, now: Instant) -> None:
        book = self._book
        if task.state not in HELD:
            return
        failed_id = book.waits.failed(task, book.tasks)
        if failed_id:
            self.fail(task, failed_id, now)
        elif task.open_dependencies or task.state is State.PAUSED:
            return
        elif task.next_ms > now.wall_ms:
            # Set again, since its timer may have gone off while it was blocked.
            due_s = now.mono_s + (task.next_ms - now.wall_ms) / 1000
            book.timers.renew(due_s, task, Purpose.QUEUE, task.next_ms)
        else:
            book.record(Kind.QUEUED, task, now)
