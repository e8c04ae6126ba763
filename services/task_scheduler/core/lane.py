"""Lanes: tasks that are alike for the queue wait in one line.

Alike means: the same needs, priority, tenant, type and concurrency keys. So whatever holds up one
task of a lane (a pause, a full key) holds up all of them, and is decided once, not for each task.

Within a lane those with a deadline go first, the earliest deadline before the others; the rest in
the order of the events that queued them. An entry is not searched for when its task leaves: it
counts while the task's `place` is its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from services.task_scheduler.core.event import RateLimit
    from services.task_scheduler.core.pool import Pool
    from services.task_scheduler.core.rates import RateKey
    from services.task_scheduler.core.shares import Share
    from services.task_scheduler.core.task import Task

NEVER = 1 << 62
"""The deadline of tasks without one."""
STALE_LEN_MIN = 64
SHORT_LEN = 16
"""Tasks from which on taking the first of them out of a list would cost."""
NONE_DUE: list[Any] = []
"""Stands for the heaps of all lanes without deadlines; never written to."""

Head = tuple[int, int, "Task"]
"""Deadline, place and task of the first of a lane."""


Alike = tuple[tuple[str, ...], int, str, str, tuple[str, ...], int, "tuple[RateLimit, ...]"]
"""The fields of a `LaneKey`: made for every task, and four times faster to make."""

SCHEDULE_KEY = "schedule/"
"""Begins the concurrency key of a schedule whose tasks queue; no caller can choose such a key."""


class LaneKey(NamedTuple):
    """What the tasks of a lane have in common."""

    needs: tuple[str, ...]
    priority: int
    tenant: str
    task_type: str
    concurrency_keys: tuple[str, ...]
    concurrency_limit: int
    rate_limits: tuple[RateLimit, ...] = ()


class Requirement:
    """A set of capabilities that open tasks need."""

    __slots__ = ("capabilities", "key", "lanes", "number", "pools")

    def __init__(self, number: int, key: tuple[str, ...]) -> None:
        self.number = number
        self.key = key
        self.capabilities = frozenset(key)
        self.lanes: dict[int, Lane] = {}
        self.pools: list[Pool] = []

    @property
    def waiting(self) -> int:
        """Tasks that wait for it."""
        return sum(lane.waiting for lane in self.lanes.values())


class Key:
    """A key that holds lanes up while it is full."""

    __slots__ = ("blocked", "limits", "name", "tenant", "waiting")

    def __init__(self, name: str, tenant: str) -> None:
        self.name = name
        self.tenant = tenant
        """Whose it is; empty when all tenants share it."""
        self.limits: dict[int, int] = {}
        """How many lanes have each limit."""
        self.waiting = 0
        # Lanes held up by it, by their limit and needs: (rank of the head, lane), the best first.
        self.blocked: dict[tuple[int, int], list[tuple[Rank, Lane]]] = {}

    def enter(self, limit: int) -> None:
        """Let a lane in that has a limit."""
        self.limits[limit] = self.limits.get(limit, 0) + 1

    def leave(self, limit: int) -> bool:
        """Let it go; return whether it was the last lane."""
        self.limits[limit] -= 1
        if not self.limits[limit]:
            del self.limits[limit]
        return not self.limits

    def full(self, limit: int) -> bool:
        """Whether no task may start now of a lane with this limit."""
        raise NotImplementedError

    def free(self, limit: int) -> int:
        """Return how many more may start now of a lane with this limit; at most 0 = it is full."""
        raise NotImplementedError

    def wait(self) -> None:
        """Note that a lane waits for it, or is gone."""


class ConcurrencyKey(Key):
    """A key under which only so many tasks may run at once."""

    __slots__ = ("running",)

    def __init__(self, name: str, tenant: str) -> None:
        super().__init__(name, tenant)
        self.running = 0

    def full(self, limit: int) -> bool:
        """Whether as many run as may."""
        return self.running >= limit

    def free(self, limit: int) -> int:
        """Return how many more may run."""
        return limit - self.running


Rank = tuple[int, float, int, int, int]


class Lane:
    """Tasks that are alike for the queue."""

    __slots__ = (
        "_aged",
        "_due",
        "_fifo",
        "blocked_on",
        "blocked_rank",
        "bounds",
        "held",
        "key",
        "number",
        "paused",
        "rates",
        "requirement",
        "share",
        "tasks",
        "waiting",
    )

    def __init__(
        self,
        number: int,
        key: LaneKey,
        requirement: Requirement,
        share: Share,
        bounds: tuple[tuple[Key, int], ...],
    ) -> None:
        self.number = number
        self.key = key
        self.requirement = requirement
        self.share = share
        self.bounds = bounds
        """Its keys, with the number of tasks that may run or start under each."""
        self.held = tuple([key for key, _ in bounds if isinstance(key, ConcurrencyKey)])
        self.rates: tuple[RateKey, ...] = tuple(
            [key for key, _ in bounds if not isinstance(key, ConcurrencyKey)]  # type: ignore[misc]  # the other kind
        )
        self.blocked_on: Key | None = None
        self.blocked_rank: Rank | None = None
        """By which it is noted there."""
        self.paused = False
        self.tasks = 0
        """Open tasks, waiting or not."""
        self.waiting = 0
        # Most lanes with a key of their own have one task: an empty deque takes 0.7 KB.
        self._fifo: deque[tuple[int, Task]] | list[tuple[int, Task]] = []
        # Of tasks with a deadline: by that, and by place.
        self._due: list[Head] = NONE_DUE
        self._aged: list[tuple[int, Task]] = NONE_DUE

    def push(self, task: Task) -> bool:
        """Let a task wait at its place; return whether it is the first or the oldest now."""
        place, deadline_ms = task.queued_seq, task.terms.deadline_ms
        task.place = place
        self.waiting += 1
        if deadline_ms:
            if self._due is NONE_DUE:
                self._due, self._aged = [], []
            heappush(self._due, (deadline_ms, place, task))
            heappush(self._aged, (place, task))
            self._compact()
            return self._due[0][2] is task or self._aged[0][1] is task
        fifo = self._fifo
        if not fifo or place > fifo[-1][0]:
            fifo.append((place, task))
            length = len(fifo)
            if length == SHORT_LEN:
                self._fifo = deque(fifo)
            return length == 1
        if place < fifo[0][0]:
            fifo.insert(0, (place, task))
            return True
        # A hand-back: its place is near the front, behind others that came back before it.
        index = next(i for i, entry in enumerate(fifo) if entry[0] >= place)
        if fifo[index][0] == place:
            fifo[index] = (place, task)
        else:
            fifo.insert(index, (place, task))
        return index == 0

    def take(self, task: Task) -> None:
        """Let a task leave; its entry goes when it surfaces, or with the last task."""
        task.place = 0
        self.waiting -= 1
        if not self.waiting:
            # Whatever is left is of tasks that are gone. The next one is the first again.
            self._fifo.clear()
            self._due = self._aged = NONE_DUE

    def remove(self, task: Task) -> None:
        """Let a task leave that was not taken: it may be anywhere."""
        self.take(task)
        self._compact()

    def head(self) -> Head | None:
        """Return the task that goes first."""
        due = self._due
        while due:
            if due[0][2].place == due[0][1]:
                return due[0]
            heappop(due)
        fifo = self._fifo
        while fifo:
            place, task = fifo[0]
            if task.place == place:
                return NEVER, place, task
            del fifo[0]
        return None

    def oldest(self) -> tuple[int, Task] | None:
        """Return the task that was queued first."""
        aged, fifo = self._aged, self._fifo
        while aged and aged[0][1].place != aged[0][0]:
            heappop(aged)
        while fifo and fifo[0][1].place != fifo[0][0]:
            del fifo[0]
        if not aged or (fifo and fifo[0][0] < aged[0][0]):
            return fifo[0] if fifo else None
        return aged[0]

    def full(self) -> Key | None:
        """Return the key that holds it up, if one does."""
        for key, limit in self.bounds:
            if key.full(limit):
                return key
        return None

    def rank(self, head: Head) -> Rank:
        """Return what orders lanes that wait for the same key; it only grows while they do."""
        share = self.share
        return -share.priority, share.level_s, head[0], head[1], self.number

    def __iter__(self) -> Iterator[Task]:
        """Return what waits, in the order in which it goes."""
        # A task that came back may have two entries here until one of them surfaces.
        due = {head[1]: head for head in self._due if head[2].place == head[1]}
        for _, _, task in sorted(due.values(), key=lambda head: head[:2]):
            yield task
        for place, task in self._fifo:
            if task.place == place:
                yield task

    def _compact(self) -> None:
        """Drop entries of tasks that have left, when they are most."""
        kept_max = 2 * self.waiting + STALE_LEN_MIN
        if len(self._fifo) > kept_max:
            self._fifo = deque(entry for entry in self._fifo if entry[1].place == entry[0])
        if len(self._due) > kept_max:
            self._due = [head for head in self._due if head[2].place == head[1]]
            heapify(self._due)
        if len(self._aged) > kept_max:
            self._aged = [entry for entry in self._aged if entry[1].place == entry[0]]
            heapify(self._aged)
