"""Who descends from whom: what bounds a task that keeps making others, and who ends with whom.

A lineage is counted from its first child until none of its tasks is open any more.
"""

from __future__ import annotations

from collections.abc import Iterable

from services.task_scheduler.core.task import Task


class Lineages:
    """The open descendants of all open tasks."""

    __slots__ = ("_children", "_counts")

    def __init__(self) -> None:
        self._children: dict[str, dict[str, Task]] = {}
        # By first task: descendants there have been, and those of them that are open.
        self._counts: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def total(self, root_task_id: str) -> int:
        """Return how many tasks descend from one, those that have ended included."""
        counted = self._counts.get(root_task_id)
        return counted[0] if counted is not None else 0

    def add(self, task: Task, *, new: bool) -> None:
        """Take in an open child, new or revived."""
        origin = task.origin
        counted = self._counts.setdefault(origin.root_task_id, [0, 0])
        counted[0] += new
        counted[1] += 1
        self._children.setdefault(origin.parent_task_id, {})[task.task_id] = task

    def end(self, task: Task, *, root_open: bool) -> None:
        """Let a child end.

        Args:
            task: The child.
            root_open: Whether the first task of its lineage is open.
        """
        origin = task.origin
        siblings = self._children[origin.parent_task_id]
        del siblings[task.task_id]
        if not siblings:
            del self._children[origin.parent_task_id]
        counted = self._counts[origin.root_task_id]
        counted[1] -= 1
        if not counted[1] and not root_open:
            del self._counts[origin.root_task_id]

    def end_root(self, task_id: str) -> None:
        """Let a task without a parent end."""
        counted = self._counts.get(task_id)
        if counted is not None and not counted[1]:
            del self._counts[task_id]

    def descendants(self, task_id: str) -> list[Task]:
        """Return the open tasks that descend from one, generation by generation.

        What descends from them through a task that has ended is not found.
        """
        found: list[Task] = []
        generation = [task_id]
        while generation:
            children = [
                child for parent in generation for child in self._children.get(parent, {}).values()
            ]
            found += children
            generation = [child.task_id for child in children]
        return found

    def plain(self) -> dict[str, int]:
        """Return how many tasks there have been by lineage; the rest follows from the tasks."""
        return {root: counted[0] for root, counted in self._counts.items()}

    def restore(self, plain: dict[str, int], children: Iterable[Task]) -> None:
        """Go on from what `plain` gave, and the open tasks that have a parent."""
        for root, total in plain.items():
            self._counts[root] = [total, 0]
        for task in children:
            self.add(task, new=False)
