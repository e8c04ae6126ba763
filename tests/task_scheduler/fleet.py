"""Agents of a given length of work in virtual time, over one core."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from heapq import heappop, heappush

from services.kernel.instant import Instant
from services.task_scheduler.core.task import Lease, Task
from tests.task_scheduler.rig import Rig


class Fleet:
    """Agents that take what they are granted and complete it after its time."""

    def __init__(
        self,
        rig: Rig,
        slots: int,
        length_s: Callable[[Task], float],
        *needs: str,
        apart: Mapping[str, int] | None = None,
    ) -> None:
        """Connect agents.

        Args:
            rig: The scheduler.
            slots: How many there are that can do `needs`.
            length_s: How long a task takes.
            needs: What they can do; work.
            apart: How many others there are, by the one thing that they can do.
        """
        self.rig = rig
        self.length_s = length_s
        self.used_s: Counter[str] = Counter()
        """Agent-seconds by tenant."""
        self.waits_s: list[tuple[Task, float]] = []
        """What was granted, with how long it had waited."""
        self.peak: Counter[str] = Counter()
        """Most running at once, by concurrency key."""
        self._running: list[tuple[float, int, Lease, int]] = []
        self._keys: Counter[str] = Counter()
        self._totals = {1: slots}
        rig.credit(*needs, total=slots)
        for class_id, (name, count) in enumerate((apart or {}).items(), 2):
            self._totals[class_id] = count
            rig.credit(name, total=count, class_id=class_id)
        self.take()

    def run(self, seconds: float, refill: Callable[[], None] = lambda: None) -> None:
        """Let time pass; `refill` is called after each completed task."""
        end_s = self.rig.now.mono_s + seconds
        while self._running and self._running[0][0] <= end_s:
            due_s, _, lease, class_id = heappop(self._running)
            self._go_to(due_s)
            task = self.rig.task(lease.task_id)
            self.rig.complete(lease)
            self._keys.subtract(task.terms.concurrency_keys)
            self._totals[class_id] += 1
            refill()
            self.rig.credit(total=self._totals[class_id], class_id=class_id)
            self.take()
        self._go_to(end_s)

    def take(self) -> None:
        """Begin what was granted."""
        rig = self.rig
        for grant in rig.grants():
            task, now_s = grant.task, rig.now.mono_s
            rig.start(task)
            length_s = self.length_s(task)
            self.used_s[task.tenant] += length_s
            self.waits_s.append((task, now_s - task.queued_s))
            lease = rig.lease(task)
            due_s = now_s + length_s
            heappush(self._running, (due_s, grant.lease_epoch, lease, grant.class_id))
            for key in task.terms.concurrency_keys:
                self._keys[key] += 1
                self.peak[key] = max(self.peak[key], self._keys[key])

    def _go_to(self, mono_s: float) -> None:
        passed_s = mono_s - self.rig.now.mono_s
        if passed_s > 0:
            wall_ms = self.rig.now.wall_ms + round(passed_s * 1000)
            self.rig.now = Instant(mono_s, wall_ms)


def overtaken(fleet: Fleet, after_s: float) -> dict[str, int]:
    """Return how many more urgent tasks were granted before each, once it had waited `after_s`."""
    starts_s: defaultdict[int, list[float]] = defaultdict(list)
    found: dict[str, int] = {}
    for task, wait_s in fleet.waits_s:
        priority, since_s = task.terms.priority, task.queued_s + after_s
        found[task.task_id] = sum(
            len(times_s) - bisect_right(times_s, since_s)
            for urgent, times_s in starts_s.items()
            if urgent > priority
        )
        starts_s[priority].append(task.queued_s + wait_s)
    return found


def jain(values: list[float]) -> float:
    """Return Jain's index: 1 when all are equal, 1/n when one has everything."""
    return sum(values) ** 2 / (len(values) * sum(value * value for value in values))
