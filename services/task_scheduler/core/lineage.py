"""Who descends from whom: what bounds a task that keeps making others, and who ends with whom.

A lineage is counted from its first child until none of its tasks is open any more. Of tasks that
have ended their place between parent and children is kept as long as something below them is open
or a dead letter, which may be open again; so at most `lineage_tasks_max` places for each lineage,
and `lineage_depth_max` for each dead letter.
"""

from __future__ import annotations

from collections.abc import Mapping

from services.task_scheduler.core.states import State
from services.task_scheduler.core.task import Task


class Lineages:
    """The descendants of all tasks that are open or dead letters, and what joins them."""

    __slots__ = ("_children", "_links", "counts")

    def __init__(self) -> None:
        # By parent. None stands for a child that has ended and is there for those below it.
        self._children: dict[str, dict[str, Task | None]] = {}
        self._links: dict[str, str] = {}
        """The parents of those for which None stands: they may have left memory."""
        self.counts: dict[str, list[int]] = {}
        """By first task: descendants there have been, and those of them that are open."""

    def __len__(self) -> int:
        return len(self.counts)

    def total(self, root_task_id: str) -> int:
        """Return how many tasks descend from one, those that have ended included."""
        counted = self.counts.get(root_task_id)
        return counted[0] if counted is not None else 0

    def add(self, task: Task, *, new: bool) -> None:
        """Take in an open child, new or revived."""
        origin = task.origin
        counted = self.counts.get(origin.root_task_id)
        if counted is None:
            # Of a lineage that had ended, one that is revived is the first again.
            counted, new = self.counts.setdefault(origin.root_task_id, [0, 0]), True
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
        counted = self.counts[origin.root_task_id]
        counted[1] -= 1
        if not counted[1] and not root_open:
            del self.counts[origin.root_task_id]
        if task.state is not State.FAILED:
            self.forget(task)

    def end_root(self, task_id: str) -> None:
        """Let a task without a parent end."""
        counted = self.counts.get(task_id)
        if counted is not None and not counted[1]:
            del self.counts[task_id]

    def forget(self, task: Task) -> None:
        """Let a child go that will not be open again, and what was there for it alone."""
        task_id, parent_id = task.task_id, task.origin.parent_task_id
        if task_id in self._children:
            self._children[parent_id][task_id] = None
            self._links[task_id] = parent_id
            return
        while True:
            siblings = self._children[parent_id]
            del siblings[task_id]
            if siblings:
                return
            del self._children[parent_id]
            above_id = self._links.pop(parent_id, None)
            if above_id is None:
                # It is open, a dead letter, or the first of its lineage.
                return
            task_id, parent_id = parent_id, above_id

    def descendants(self, task_id: str) -> list[Task]:
        """Return the open tasks that descend from one, generation by generation."""
        found: list[Task] = []
        generation = [task_id]
        while generation:
            below: list[str] = []
            for parent_id in generation:
                for child_id, child in self._children.get(parent_id, {}).items():
                    below.append(child_id)
                    if child is not None and not child.ended:
                        found.append(child)
            generation = below
        return found

    def plain(self) -> dict[str, int]:
        """Return how many tasks there have been by lineage; the rest follows from the tasks."""
        return {root: counted[0] for root, counted in self.counts.items()}

    def links(self) -> dict[str, str]:
        """Return the parents of tasks that have ended and are there for those below them."""
        return dict(self._links)

    def restore(
        self, plain: Mapping[str, int], links: Mapping[str, str], tasks: Mapping[str, Task]
    ) -> None:
        """Go on from what `plain` and `links` gave, and all tasks in memory.

        A snapshot of an earlier version has no links: they follow from the tasks in memory then.
        """
        for root, total in plain.items():
            self.counts[root] = [total, 0]
        for task in tasks.values():
            if task.origin.parent_task_id:
                if not task.ended:
                    self.add(task, new=False)
                elif task.state is State.FAILED:
                    self._children.setdefault(task.origin.parent_task_id, {})[task.task_id] = task
        for parent_id in list(self._children):
            self._join(parent_id, links, tasks)

    def _join(self, task_id: str, links: Mapping[str, str], tasks: Mapping[str, Task]) -> None:
        """Tie a task that has children to what it descends from."""
        while True:
            task = tasks.get(task_id)
            parent_id = links.get(task_id, "") if task is None else task.origin.parent_task_id
            if not parent_id or task_id in self._children.get(parent_id, ()):
                return
            self._children.setdefault(parent_id, {})[task_id] = None
            self._links[task_id] = parent_id
            task_id = parent_id
