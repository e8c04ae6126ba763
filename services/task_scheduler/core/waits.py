"""Which tasks wait for which others.

A task waits for another from the event that says so until the other has completed, or until it is
queued or has ended itself. One whose dependency ended otherwise goes on waiting until an event says
what came of it: so the log alone says who waits, wherever it ends. A task of a schedule that queues
waits for its turn: until it is the first of those that have not ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from operator import attrgetter

from services.task_scheduler.core.states import State
from services.task_scheduler.core.task import Task

HELD = frozenset({State.CREATED, State.PAUSED})
"""States in which a task can wait for others."""


class Waits:
    """Tasks by what they wait for."""

    __slots__ = ("_waiting", "affected", "blocked")

    def __init__(self) -> None:
        self._waiting: dict[str, dict[str, Task]] = {}
        self.affected: deque[Task] = deque()
        """Tasks that wait, or waited, for one that has ended, and were not looked at since."""
        self.blocked = 0
        """Tasks in state CREATED that wait for others; `Book` counts those that change state."""

    def add(self, task: Task, other_id: str) -> None:
        """Let a task wait for another."""
        waiting = self._waiting.setdefault(other_id, {})
        if task.task_id not in waiting:
            waiting[task.task_id] = task
            if not task.open_dependencies and task.state is State.CREATED:
                self.blocked += 1
            task.open_dependencies += 1

    def await_turn(self, task: Task) -> None:
        """Let a task of a schedule, which depends on none, wait until those before have ended."""
        assert not task.depends_on
        if not task.open_dependencies and task.state is State.CREATED:
            self.blocked += 1
        task.open_dependencies = 1

    def take_turn(self, task: Task, before_change: Callable[[Task], None] | None) -> None:
        """Let such a task wait no more, if it did; it is affected."""
        if task.open_dependencies:
            if before_change is not None:
                before_change(task)
            task.open_dependencies = 0
            self.blocked -= task.state is State.CREATED
            self.affected.append(task)

    def drop(self, task: Task) -> None:
        """Let a task wait for no other."""
        task.open_dependencies = 0
        for other_id in task.depends_on:
            waiting = self._waiting.get(other_id)
            if waiting is not None and waiting.pop(task.task_id, None) is not None and not waiting:
                del self._waiting[other_id]

    def end(self, task: Task, before_change: Callable[[Task], None] | None) -> None:
        """Note that a task has ended; who waits for it is affected.

        Args:
            task: Who has ended.
            before_change: Told of those who wait, when this changes them.
        """
        waiting = self._waiting.get(task.task_id)
        if waiting is None:
            return
        # As they were submitted: which of them waited first is not known after a restart.
        self.affected.extend(sorted(waiting.values(), key=attrgetter("created_seq")))
        if task.state is not State.COMPLETED:
            return
        del self._waiting[task.task_id]
        for dependent in waiting.values():
            if before_change is not None:
                before_change(dependent)
            dependent.open_dependencies -= 1
            if not dependent.open_dependencies and dependent.state is State.CREATED:
                self.blocked -= 1

    def failed(self, task: Task, tasks: Mapping[str, Task]) -> str:
        """Return what a task waits for in vain, since it ended without a result; else nothing."""
        if task.open_dependencies:
            for other_id in task.depends_on:
                if task.task_id in self._waiting.get(other_id, ()):
                    other = tasks.get(other_id)
                    if other is None or other.ended:
                        return other_id
        return ""

    def find_affected(self, tasks: Mapping[str, Task]) -> None:
        """Find those whose waiting is over, when the log ended before it told what came of them."""
        self.affected.extend(
            task
            for task in tasks.values()
            if task.state in HELD
            and (
                self.failed(task, tasks)
                if task.open_dependencies
                else task.state is State.CREATED and not task.next_ms
            )
        )

    def plain(self) -> dict[str, list[str]]:
        """Return who waits for what."""
        return {other_id: list(waiting) for other_id, waiting in self._waiting.items()}
