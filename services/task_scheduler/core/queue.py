"""The one ready queue: the most urgent task that a pool of agents can do, at any depth.

Tasks wait in lanes, one for each set of required capabilities and priority, in the order of the
events that queued them. A pool is one distinct set of capabilities that connected agents have; per
priority it keeps a heap of the lanes it can serve, ordered by their heads, so that a grant costs
the same for ten waiting tasks as for a million, and for one requirement as for a thousand.

Ageing: a task that has waited longer than `ageing_s` gets every fourth grant of its pool, the
oldest first, whatever its priority. So three grants of four follow priority under any load, and
the wait of the lowest priority is at most `ageing_s` plus four grants for each task that became
overdue before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush, heapreplace

from services.task_scheduler.core.task import Task

PRIORITIES = 10
AGEING_SHARE = 4
"""One grant in this many goes to the oldest overdue task."""
STALE_LEN_MIN = 64

Entry = tuple[int, Task]
Lane = deque[Entry]


class Requirement:
    """A set of capabilities that some tasks need, with the tasks that wait for it."""

    __slots__ = ("capabilities", "key", "lanes", "number", "pools", "stale", "tasks", "waiting")

    def __init__(self, number: int, key: tuple[str, ...]) -> None:
        self.number = number
        self.key = key
        self.capabilities = frozenset(key)
        self.lanes: list[Lane | None] = [None] * PRIORITIES
        self.waiting = [0] * PRIORITIES
        self.stale = 0
        self.pools: list[Pool] = []
        self.tasks = 0
        """Tasks in memory that refer to it."""


class Pool:
    """A distinct set of capabilities that connected agents have."""

    __slots__ = ("capabilities", "classes", "grants", "heads", "listed", "mask", "members")

    def __init__(self, capabilities: frozenset[str]) -> None:
        self.capabilities = capabilities
        self.classes = 0
        """Capability classes of routers that share it."""
        self.members = 0
        """Agents that have it."""
        self.grants = 0
        self.mask = 0
        """Bit p says that a lane of priority p may have a task."""
        # (number of the head, number of the requirement, requirement); corrected when it surfaces.
        self.heads: list[list[tuple[int, int, Requirement]]] = [[] for _ in range(PRIORITIES)]
        self.listed: list[set[int]] = [set() for _ in range(PRIORITIES)]

    def offer(self, priority: int, place: int, requirement: Requirement, *, first: bool) -> None:
        """List a lane; again when it got a new first task."""
        listed = self.listed[priority]
        if first or requirement.number not in listed:
            listed.add(requirement.number)
            heappush(self.heads[priority], (place, requirement.number, requirement))
            self.mask |= 1 << priority


class ReadyQueue:
    """All tasks in state QUEUED."""

    __slots__ = ("_ageing_s", "_pools", "_requirements", "_serial")

    def __init__(self, ageing_s: float = 60.0) -> None:
        self._ageing_s = ageing_s
        self._requirements: dict[tuple[str, ...], Requirement] = {}
        self._pools: dict[frozenset[str], Pool] = {}
        self._serial = 0

    def __len__(self) -> int:
        return sum(sum(requirement.waiting) for requirement in self._requirements.values())

    def require(self, capabilities: tuple[str, ...]) -> Requirement:
        """Return the record of a requirement, sorted and without repeats, for one more task."""
        requirement = self._requirements.get(capabilities)
        if requirement is None:
            self._serial += 1
            requirement = Requirement(self._serial, capabilities)
            self._requirements[capabilities] = requirement
            needed = requirement.capabilities
            requirement.pools = [p for p in self._pools.values() if needed <= p.capabilities]
        requirement.tasks += 1
        return requirement

    def release(self, requirement: Requirement) -> None:
        """Forget one task of a requirement, and the requirement with the last."""
        requirement.tasks -= 1
        if not requirement.tasks:
            del self._requirements[requirement.key]

    def requirements(self) -> Iterable[Requirement]:
        """Return what tasks in memory need."""
        return self._requirements.values()

    def pool(self, capabilities: frozenset[str]) -> Pool:
        """Return the pool with exactly these capabilities, made when it is new."""
        pool = self._pools.get(capabilities)
        if pool is None:
            pool = self._pools[capabilities] = Pool(capabilities)
            for requirement in self._requirements.values():
                if requirement.capabilities <= capabilities:
                    requirement.pools.append(pool)
                    self._offer_all(pool, requirement)
        return pool

    def drop(self, pool: Pool) -> None:
        """Forget a pool that has no agent any more."""
        del self._pools[pool.capabilities]
        for requirement in self._requirements.values():
            if pool in requirement.pools:
                requirement.pools.remove(pool)

    def schedulable(self, capabilities: frozenset[str]) -> bool:
        """Whether some connected agent has all of these capabilities."""
        return any(p.members and capabilities <= p.capabilities for p in self._pools.values())

    def push(self, task: Task) -> None:
        """Let a task wait at the place of the event that queued it."""
        place, priority = task.queued_seq, task.terms.priority
        requirement = task.requirement
        lane = requirement.lanes[priority]
        if lane is None:
            lane = requirement.lanes[priority] = deque()
        first = not lane or place < lane[0][0]
        if not lane or place > lane[-1][0]:
            lane.append((place, task))
        elif first:
            lane.appendleft((place, task))
        else:
            # A hand-back: its place is near the front, behind others that came back before it.
            index = next(i for i, entry in enumerate(lane) if entry[0] >= place)
            lane.insert(index, (place, task))
        task.place = place
        requirement.waiting[priority] += 1
        if first:
            for pool in requirement.pools:
                pool.offer(priority, place, requirement, first=len(lane) > 1)

    def remove(self, task: Task) -> None:
        """Take a task out that was not popped; its entry goes when it surfaces."""
        requirement, priority = task.requirement, task.terms.priority
        task.place = 0
        requirement.waiting[priority] -= 1
        requirement.stale += 1
        if requirement.stale > STALE_LEN_MIN and requirement.stale > sum(requirement.waiting):
            for band, lane in enumerate(requirement.lanes):
                if lane:
                    kept = deque(entry for entry in lane if entry[1].place == entry[0])
                    requirement.lanes[band] = kept
            requirement.stale = 0

    def pop(self, pool: Pool, now_s: float) -> Task | None:
        """Take the task that the pool should work on next."""
        if not pool.mask:
            return None
        pool.grants += 1
        if pool.grants % AGEING_SHARE == 0:
            oldest = self._oldest(pool)
            if oldest is not None and now_s - oldest[1] > self._ageing_s:
                return self._take(pool, oldest[2])
        while pool.mask:
            band = pool.mask.bit_length() - 1
            if self._head(pool, band) is not None:
                return self._take(pool, band)
        return None

    def oldest_age(self, priority: int, now_s: float) -> float:
        """Return how long the oldest task of a priority has waited; 0 when none waits."""
        starts = [
            entry[1].queued_s
            for requirement in self._requirements.values()
            if requirement.waiting[priority]
            for entry in _valid(requirement.lanes[priority] or ())
        ]
        return max(0.0, now_s - min(starts)) if starts else 0.0

    def waiting(self) -> Iterator[Task]:
        """Return what waits, by priority, requirement and order; for tests and checks."""
        for priority in reversed(range(PRIORITIES)):
            for requirement in self._requirements.values():
                for place, task in requirement.lanes[priority] or ():
                    if task.place == place:
                        yield task

    def _oldest(self, pool: Pool) -> tuple[int, float, int] | None:
        """Return (place, since, band) of the task that has waited longest."""
        best: tuple[int, float, int] | None = None
        for band in range(PRIORITIES):
            if pool.mask >> band & 1:
                entry = self._head(pool, band)
                if entry is not None and (best is None or entry[0] < best[0]):
                    best = (entry[0], entry[1].queued_s, band)
        return best

    def _head(self, pool: Pool, band: int) -> Entry | None:
        """Return the first task of a band, correcting its heap on the way."""
        heap = pool.heads[band]
        while heap:
            place, number, requirement = heap[0]
            lane = requirement.lanes[band]
            while lane and lane[0][1].place != lane[0][0]:
                lane.popleft()
                requirement.stale -= 1
            if not lane:
                heappop(heap)
                pool.listed[band].discard(number)
            elif lane[0][0] != place:
                heapreplace(heap, (lane[0][0], number, requirement))
            else:
                return lane[0]
        pool.mask &= ~(1 << band)
        return None

    def _take(self, pool: Pool, band: int) -> Task:
        requirement = pool.heads[band][0][2]
        lane = requirement.lanes[band]
        assert lane
        _, task = lane.popleft()
        task.place = 0
        requirement.waiting[band] -= 1
        return task

    def _offer_all(self, pool: Pool, requirement: Requirement) -> None:
        for priority, lane in enumerate(requirement.lanes):
            if lane:
                pool.offer(priority, lane[0][0], requirement, first=False)


def _valid(lane: Iterable[Entry]) -> Iterator[Entry]:
    """Return the first entry of a lane that still waits."""
    for entry in lane:
        if entry[1].place == entry[0]:
            yield entry
            return
