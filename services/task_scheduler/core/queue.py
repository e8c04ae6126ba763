"""The one ready queue: what a pool of agents should work on next, at any depth.

A pool is one distinct set of capabilities that connected agents have. It serves, in this order: the
highest priority; of that, the tenant that has used least (see `shares`); of that tenant's tasks,
the earliest deadline, then the one queued first. A pool keeps heaps of lanes and of tenants and
none of tasks, so that a grant costs the same for ten waiting tasks as for a million.

Ageing: every fourth grant of a pool goes to the priority whose turn has waited longest, if that
is more than `ageing_s`, and there to the oldest task of the tenant whose turn it is. Tenants get
these grants by their shares, and so one that has used much may wait there without end. Therefore
every second of them goes to the oldest task below the highest priority, whosever it is, once
it has waited `FORGOTTEN` times `ageing_s`. From then on a task sees at most `8 * (n + 1)` grants
of its pool to more urgent ones, n being the tasks queued before it below the highest priority: of
eight grants in a row of which one is more urgent, the last goes to it or to one of the n. Three
grants of four follow the order above under any load, and within the highest priority all do, but
for the tenant's own order.

A lane that may not run (paused, or under a full key) is taken out of a pool's heaps when it
surfaces, and offered again when what held it up is over.

A task that waits at a router starts when an agent is free, at a time that is not known here. So one
with rates is granted for a free agent alone, and while it is the next, nothing is granted ahead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heappop, heapreplace

from services.kernel.versions import covers, offered
from services.task_scheduler.core.bounds import held_up, offer, pass_on, release
from services.task_scheduler.core.keys import Keys
from services.task_scheduler.core.lane import Alike, Lane, LaneKey, Requirement
from services.task_scheduler.core.limits import URGENT_PRIORITY, Limits
from services.task_scheduler.core.pauses import ByScope, Pauses, Scope
from services.task_scheduler.core.pool import IDLE_LEN_MAX, Elders, Line, Pool
from services.task_scheduler.core.shares import Shares
from services.task_scheduler.core.task import Task

AGEING_SHARE = 4
"""One grant in this many goes to the oldest overdue task of the tenant whose turn it is."""
FORGOTTEN_SHARE = 2 * AGEING_SHARE
"""One grant in this many goes to the oldest forgotten task, whosever it is."""
FORGOTTEN = 2
"""Times `ageing_s` that a task has waited that counts as forgotten."""

Turn = tuple[Line | None, Task | None]
NOBODY: Turn = (None, None)


class ReadyQueue:
    """All tasks in state QUEUED, and what holds some of them up."""

    __slots__ = (
        "_by_scope",
        "_lanes",
        "_limits",
        "_pools",
        "_requirements",
        "_serial",
        "_unreviewed",
        "keys",
        "pauses",
        "shares",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lanes: dict[Alike, Lane] = {}
        self._by_scope = ByScope()
        self._requirements: dict[tuple[str, ...], Requirement] = {}
        self._pools: dict[frozenset[str], Pool] = {}
        self._serial = 0
        self.keys = Keys(limits)
        self.shares = Shares(limits.tenant_weights)
        self.pauses = Pauses()
        self._unreviewed = False

    def __len__(self) -> int:
        return sum(lane.waiting for lane in self._lanes.values())

    # --- Lanes -----------------------------------------------------------------------------

    def enter(self, alike: Alike) -> Lane:
        """Return the lane for one more open task."""
        lane = self._lanes.get(alike)
        if lane is None:
            lane = self._new_lane(LaneKey(*alike))
            self._lanes[lane.key] = lane
        lane.tasks += 1
        lane.share.tenant.open_tasks += 1
        return lane

    def leave(self, lane: Lane) -> None:
        """Let an open task of a lane end."""
        lane.tasks -= 1
        tenant = lane.share.tenant
        tenant.open_tasks -= 1
        if not tenant.open_tasks:
            self.shares.idle(tenant)
        if not lane.tasks and (lane.bounds or len(self._lanes) > IDLE_LEN_MAX):
            self._forget(lane)

    def lanes(self) -> Iterable[Lane]:
        """Return all lanes."""
        return self._lanes.values()

    def requirements(self) -> Iterable[Requirement]:
        """Return what open tasks need, or needed a short while ago."""
        return self._requirements.values()

    def _new_lane(self, key: LaneKey) -> Lane:
        requirement = self._requirements.get(key.needs)
        if requirement is None:
            requirement = self._new_requirement(key.needs)
        tenant = self.shares.tenant(key.tenant)
        for forgotten in self.shares.take_forgotten():
            for idle in list(forgotten.lanes.values()):
                self._forget(idle)
        self._serial += 1
        share = self.shares.share(tenant, key.priority)
        lane = Lane(self._serial, key, requirement, share, self.keys.of(key))
        lane.paused = self.pauses.hold(key.tenant, key.task_type)
        requirement.lanes[lane.number] = lane
        self._by_scope.add(lane)
        return lane

    def _new_requirement(self, needs: tuple[str, ...]) -> Requirement:
        self._serial += 1
        requirement = self._requirements[needs] = Requirement(self._serial, needs)
        pools, wanted = self._pools.values(), requirement.capabilities
        requirement.pools = [pool for pool in pools if covers(pool.capabilities, wanted)]
        return requirement

    def _forget(self, lane: Lane) -> None:
        del self._lanes[lane.key]
        requirement = lane.requirement
        del requirement.lanes[lane.number]
        self._by_scope.remove(lane)
        if not requirement.lanes:
            del self._requirements[requirement.key]
        self.keys.forget(lane)

    # --- What waits ------------------------------------------------------------------------

    def push(self, task: Task) -> None:
        """Let a task wait at the place of the event that queued it."""
        lane = task.lane
        assert lane is not None
        lane.share.arrive()
        first = lane.push(task)
        for key, _ in lane.bounds:
            key.waiting += 1
        if first:
            anew = lane.share.waiting == 1
            for pool in lane.requirement.pools:
                pool.offer(lane, anew=anew)

    def remove(self, task: Task) -> None:
        """Take a task out that was not popped."""
        lane = task.lane
        assert lane is not None
        lane.remove(task)
        self._left(lane)
        if lane.bounds:
            # What was offered in its place was chosen by its first task.
            pass_on(lane)

    def has_urgent(self, pool: Pool) -> bool:
        """Whether an urgent task waits that the pool could work on."""
        while (priority := pool.mask.bit_length() - 1) >= URGENT_PRIORITY:
            if self._turn(pool, priority)[1] is not None:
                return True
        return False

    def pop(self, pool: Pool, now_s: float, *, ahead: bool = False) -> Task | None:
        """Take the task that the pool should work on next.

        Args:
            pool: The agents that are to work on it.
            now_s: The time.
            ahead: It may have to wait for one of them.
        """
        if not pool.mask:
            return None
        peak = pool.peak
        pool.grants += 1
        task = line = None
        if pool.grants % AGEING_SHARE == 0:
            if pool.grants % FORGOTTEN_SHARE == 0:
                task = self._forgotten(pool, now_s)
            if task is None:
                line, task = self._overdue(pool, now_s)
        while task is None:
            if not pool.mask:
                return None
            line, task = self._turn(pool, pool.mask.bit_length() - 1)
        lane = task.lane
        assert lane is not None
        if ahead and lane.rates:
            # It is its turn still when an agent is free.
            pool.grants, pool.peak = pool.grants - 1, peak
            return None
        if line is not None:
            pool.serve(line)
        if lane.key.priority > pool.peak:
            pool.peak = lane.key.priority
        lane.take(task)
        self._left(lane)
        return task

    def _left(self, lane: Lane) -> None:
        lane.share.waiting -= 1
        for key, _ in lane.bounds:
            key.waiting -= 1

    def _turn(self, pool: Pool, priority: int) -> Turn:
        """Return the tenant whose turn it is, with the first of its tasks that may run."""
        turns, clock_s = pool.turns[priority], pool.clocks_s[priority]
        while turns:
            passed_s, name, line = turns[0]
            now_s = line.turn_s(clock_s)
            if passed_s < now_s:
                # Somebody else may have passed less by now.
                heapreplace(turns, (now_s, name, line))
                continue
            task = self._first_of(line)
            if task is not None:
                return line, task
            heappop(turns)
            pool.unlist(line)
        pool.mask &= ~(1 << priority)
        return NOBODY

    def _first_of(self, line: Line) -> Task | None:
        heads, listed = line.heads, line.lanes
        while heads:
            entry = heads[0]
            number, lane = entry[2], entry[3]
            if listed.get(number) != entry:
                heappop(heads)
                continue
            head = lane.head()
            if head is None or ((lane.paused or lane.bounds) and held_up(lane)):
                heappop(heads)
                del listed[number]
                pass_on(lane)
            elif head[1] != entry[1]:
                listed[number] = entry = (head[0], head[1], number, lane)
                heapreplace(heads, entry)
            else:
                return head[2]
        return None

    def _oldest_of(self, elders: Elders) -> Task | None:
        heap, listed = elders.heap, elders.listed
        while heap:
            entry = heap[0]
            number, lane = entry[1], entry[2]
            if listed.get(number) != entry:
                heappop(heap)
                continue
            oldest = lane.oldest()
            if oldest is None or ((lane.paused or lane.bounds) and held_up(lane)):
                heappop(heap)
                del listed[number]
                pass_on(lane)
            elif oldest[0] != entry[0]:
                listed[number] = entry = (oldest[0], number, lane)
                heapreplace(heap, entry)
            else:
                return oldest[1]
        return None

    def _overdue(self, pool: Pool, now_s: float) -> Turn:
        """Return the task that has waited longest of those whose turn it is, if that is too long.

        Whose turn it is counts, not who is oldest: in a queue in which all wait too long, a tenant
        with the oldest tasks would get more than its share.
        """
        overdue: Task | None = None
        line: Line | None = None
        for priority in range(pool.mask.bit_length()):
            whose = self._turn(pool, priority)[0] if pool.mask >> priority & 1 else None
            task = self._oldest_of(whose.elders) if whose is not None else None
            if task is not None and (overdue is None or task.place < overdue.place):
                overdue, line = task, whose
        if overdue is None or now_s - overdue.queued_s <= self._limits.ageing_s:
            return NOBODY
        return line, overdue

    def _forgotten(self, pool: Pool, now_s: float) -> Task | None:
        """Return the oldest task below the highest priority served of late, if it is forgotten.

        The highest priority is left out: where nothing more urgent is in the way, shares decide.
        """
        peak, pool.peak = pool.peak, 0
        oldest: Task | None = None
        for elders in pool.elders[:peak]:
            task = self._oldest_of(elders)
            if task is not None and (oldest is None or task.place < oldest.place):
                oldest = task
        if oldest is None or now_s - oldest.queued_s <= FORGOTTEN * self._limits.ageing_s:
            return None
        return oldest

    # --- What may not run ------------------------------------------------------------------

    def review_pauses(self, scope: Scope) -> None:
        """Hold up the lanes in a scope that are paused now, and let the others go on."""
        if self._pools:
            tenant = self.shares.find(scope.tenant)
            self._review(self._by_scope.within(scope, tenant))
        else:
            # Nobody looks at them, as while a log is replayed: all at once when somebody does.
            self._unreviewed = True

    def _review(self, lanes: Iterable[Lane]) -> None:
        for lane in lanes:
            paused = self.pauses.hold(lane.key.tenant, lane.key.task_type)
            if lane.paused and not paused:
                lane.paused = False
                offer(lane)
            lane.paused = paused

    def hold(self, lane: Lane) -> None:
        """Count a task of the lane as running under its keys."""
        for key in lane.held:
            key.running += 1

    def start(self, lane: Lane, mono_s: float, wall_ms: int) -> None:
        """Count a task of the lane as started under its rates."""
        for key in lane.rates:
            key.start(mono_s, wall_ms)

    def give_back(self, lane: Lane, wall_ms: int) -> None:
        """Count a start at this time no more, which no agent took."""
        for key in lane.rates:
            key.give_back(wall_ms)
            release(key)

    def free(self, lane: Lane) -> None:
        """Count it no more, and let others have its place."""
        for key in lane.held:
            key.running -= 1
        for key in lane.held:
            release(key)

    # --- Pools -----------------------------------------------------------------------------

    def pool(self, capabilities: frozenset[str]) -> Pool:
        """Return the pool with exactly these capabilities, made when it is new."""
        pool = self._pools.get(capabilities)
        if pool is None:
            if self._unreviewed:
                self._unreviewed = False
                self._review(self._lanes.values())
            clocks_s = [band.clock_s for band in self.shares.bands]
            pool = self._pools[capabilities] = Pool(capabilities, clocks_s)
            for requirement in self._requirements.values():
                if covers(capabilities, requirement.capabilities):
                    requirement.pools.append(pool)
                    for lane in requirement.lanes.values():
                        pool.offer(lane)
        return pool

    def drop(self, pool: Pool) -> None:
        """Forget a pool that has no agent any more."""
        del self._pools[pool.capabilities]
        for requirement in self._requirements.values():
            if pool in requirement.pools:
                requirement.pools.remove(pool)

    def schedulable(self, capabilities: frozenset[str]) -> bool:
        """Whether some connected agent has all of these capabilities."""
        pools = self._pools.values()
        return any(pool.members and covers(pool.capabilities, capabilities) for pool in pools)

    def versions(self, wanted: str) -> list[str]:
        """Return the versions in which connected agents have a capability, the greatest first."""
        have = (pool.capabilities for pool in self._pools.values() if pool.members)
        return offered(frozenset().union(*have), wanted)

    # --- For people and checks -------------------------------------------------------------

    def waiting(self) -> Iterator[Task]:
        """Return what waits, by priority and lane, in the order in which it goes."""
        for lane in sorted(self._lanes.values(), key=lambda lane: (-lane.key.priority, lane.key)):
            yield from lane

    def ages(self, now_s: float) -> dict[int, tuple[int, float]]:
        """Return, by priority, how many wait and how long the oldest of them has waited."""
        found: dict[int, tuple[int, float]] = {}
        for lane in self._lanes.values():
            oldest = lane.oldest()
            if oldest is not None:
                count, age_s = found.get(lane.key.priority, (0, 0.0))
                age_s = max(age_s, now_s - oldest[1].queued_s)
                found[lane.key.priority] = (count + lane.waiting, age_s)
        return found
