"""Which agent did the last task of a key: where its caches are warm.

Keys belong to a tenant. They are wishes and no promises, so those used longest ago are forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from operator import attrgetter

from services.task_scheduler.core.states import State
from services.task_scheduler.core.task import Task


class StickyKeys:
    """Agents by tenant and key."""

    __slots__ = ("_agent_ids", "_len_max")

    def __init__(self, len_max: int) -> None:
        self._agent_ids: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._len_max = len_max

    def agent_of(self, task: Task) -> str:
        """Return the agent that has the key of a task, which has one; empty for none."""
        return self._agent_ids.get((task.tenant, task.terms.sticky_key), "")

    def completed(self, task: Task) -> None:
        """Note who did a task with a key that has completed now."""
        key = (task.tenant, task.terms.sticky_key)
        self._agent_ids[key] = task.agent_id
        self._agent_ids.move_to_end(key)
        if len(self._agent_ids) > self._len_max:
            self._agent_ids.popitem(last=False)

    def plain(self) -> list[tuple[str, str, str]]:
        """Return tenants, keys and agents; the one used longest ago first."""
        return [(*key, agent_id) for key, agent_id in self._agent_ids.items()]

    def restore(self, rows: Sequence[Sequence[str]] | None, tasks: Iterable[Task]) -> None:
        """Go on from what `plain` gave.

        Args:
            rows: None in a snapshot of a version that did not tell tenants apart.
            tasks: All in memory; without rows, those that completed tell.
        """
        if rows is not None:
            self._agent_ids.update({(row[0], row[1]): row[2] for row in rows})
            return
        done = (t for t in tasks if t.terms.sticky_key and t.state is State.COMPLETED)
        for task in sorted(done, key=attrgetter("last_seq")):
            self.completed(task)
