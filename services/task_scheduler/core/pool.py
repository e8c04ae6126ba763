"""Pools: what connected agents can do, with heaps of what they could work on next.

Whose turn it is follows from how far the tenants have passed (see `shares`), seen from this pool.
What one uses of agents that the others cannot use is counted, but it holds it back for `patience_s`
at most; one that could not be served here for a while, or only by a pool that is slow, is given
`WINDOW_S` at most to make up for it. So tenants that are served here are measured by each other,
however far those are ahead or behind that are not.

An entry of a heap may be out of date in one direction only, too early; whoever takes it corrects
it. Of several entries of one lane the one counts that is listed; the others go when they surface,
and when they are most: a pool whose agents are all busy takes none.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush, heapreplace

from services.task_scheduler.core.lane import Lane
from services.task_scheduler.core.shares import PRIORITIES, WINDOW_S, Share

First = tuple[int, int, int, Lane]
"""Deadline and place of a lane's first task, the lane's number, the lane."""
Oldest = tuple[int, int, Lane]
"""Place of a lane's oldest task, the lane's number, the lane."""


FROM_ZERO = (0.0,) * PRIORITIES
STALE_LEN_MIN = 64
IDLE_LEN_MAX = 1_024
"""Lines, and lanes, beyond which one without tasks is forgotten at once."""


class Elders:
    """Lanes by their oldest task."""

    __slots__ = ("_kept_max", "heap", "listed")

    def __init__(self) -> None:
        self.heap: list[Oldest] = []
        self.listed: dict[int, Oldest] = {}
        """Entries of `heap` that count, by lane."""
        self._kept_max = STALE_LEN_MIN

    def offer(self, entry: Oldest) -> None:
        """List a lane, or note that its oldest task comes earlier than listed."""
        number = entry[1]
        known = self.listed.get(number)
        if known is None or entry[0] < known[0]:
            if len(self.heap) >= self._kept_max:
                self._compact()
            self.listed[number] = entry
            heappush(self.heap, entry)

    def _compact(self) -> None:
        """Drop lanes that have emptied behind one that waits long; rarer, the more there are."""
        self.heap = [e for e in self.heap if self.listed.get(e[1]) == e and e[2].waiting]
        self.listed = {entry[1]: entry for entry in self.heap}
        heapify(self.heap)
        self._kept_max = 2 * len(self.heap) + STALE_LEN_MIN


class Line:
    """The lanes of one tenant and priority that a pool can serve."""

    __slots__ = ("_base_s", "_kept_max", "elders", "heads", "lanes", "listed", "share", "since_s")

    def __init__(self, share: Share, clock_s: float) -> None:
        self.share = share
        self.listed = False
        self.heads: list[First] = []
        self.lanes: dict[int, First] = {}
        """Entries of `heads` that count, by lane."""
        self.elders = Elders()
        self._kept_max = STALE_LEN_MIN
        # What it has used and its base are how far it has passed, seen from this pool.
        self._base_s = share.level_s - (share.passed_s - share.lifted_s)
        self.since_s = clock_s
        """How far its pool was when it was served or listed: what keeps it waiting counts anew."""
        self.begin(clock_s)

    def begin(self, clock_s: float) -> None:
        """Let it begin where the others are, unless it has passed that."""
        behind_s = clock_s - self.turn_s(clock_s)
        if behind_s > 0.0:
            self._base_s += behind_s

    def turn_s(self, clock_s: float) -> float:
        """Return how far it has passed, seen from its pool, where the others are at `clock_s`.

        It only grows while the line is listed.
        """
        share = self.share
        passed_s = share.passed_s - share.lifted_s + self._base_s
        if passed_s > self.since_s + WINDOW_S:
            over_s = passed_s - (self.since_s + share.patience_s)
            if over_s > 0.0:
                self._base_s -= over_s
                passed_s -= over_s
        elif passed_s < clock_s - WINDOW_S:
            self._base_s += clock_s - WINDOW_S - passed_s
            passed_s = clock_s - WINDOW_S
        return passed_s

    def offer(self, head: tuple[int, int, object], lane: Lane) -> None:
        """List a lane, or note that its first task comes earlier than listed."""
        number = lane.number
        known = self.lanes.get(number)
        if known is None or head[0] < known[0] or (head[0] == known[0] and head[1] < known[1]):
            if len(self.heads) >= self._kept_max:
                self._compact()
            self.lanes[number] = entry = (head[0], head[1], number, lane)
            heappush(self.heads, entry)

    def _compact(self) -> None:
        self.heads = [e for e in self.heads if self.lanes.get(e[2]) == e and e[3].waiting]
        self.lanes = {entry[2]: entry for entry in self.heads}
        heapify(self.heads)
        self._kept_max = 2 * len(self.heads) + STALE_LEN_MIN


Turn = tuple[float, str, Line]
"""How far a tenant has passed, its name, its line."""


class Pool:
    """A distinct set of capabilities that connected agents have."""

    __slots__ = (
        "_kept_max",
        "capabilities",
        "classes",
        "clocks_s",
        "elders",
        "grants",
        "lines",
        "mask",
        "members",
        "peak",
        "turns",
    )

    def __init__(self, capabilities: frozenset[str], clocks_s: Sequence[float] = FROM_ZERO) -> None:
        self.capabilities = capabilities
        self.classes = 0
        """Capability classes of routers that share it, and have an agent or a grant to take."""
        self.members = 0
        """Agents that have it."""
        self.grants = 0
        self.mask = 0
        """Bit p says that a lane of priority p may have a task."""
        self.clocks_s = list(clocks_s)
        """By priority: how far the tenant had passed that was served last, or waited in front."""
        self.turns: list[list[Turn]] = [[] for _ in range(PRIORITIES)]
        """By priority."""
        self._kept_max = [STALE_LEN_MIN] * PRIORITIES
        self.lines: dict[Share, Line] = {}
        self.elders = [Elders() for _ in range(PRIORITIES)]
        """By priority: the lanes of all tenants."""
        self.peak = 0
        """The highest priority served since a forgotten task was looked for."""

    def offer(self, lane: Lane, *, anew: bool = False) -> None:
        """List a lane, or note that its first or oldest task comes earlier than listed.

        Args:
            lane: The lane.
            anew: Nothing of its tenant waited before.
        """
        head, oldest = lane.head(), lane.oldest()
        if head is None or oldest is None:
            return
        share = lane.share
        line = self.lines.get(share)
        if line is None:
            line = self.lines[share] = Line(share, self._rise(share.priority))
        line.offer(head, lane)
        entry = (oldest[0], lane.number, lane)
        line.elders.offer(entry)
        self.elders[share.priority].offer(entry)
        if not line.listed:
            self._list(line, anew=anew)

    def _list(self, line: Line, *, anew: bool) -> None:
        share = line.share
        priority = share.priority
        if len(self.turns[priority]) >= self._kept_max[priority]:
            self._compact(priority)
        if anew:
            # It comes from a pause, and cannot have saved up.
            line.begin(self._rise(priority))
        clock_s = line.since_s = self.clocks_s[priority]
        line.listed = True
        heappush(self.turns[priority], (line.turn_s(clock_s), share.name, line))
        self.mask |= 1 << priority

    def _rise(self, priority: int) -> float:
        """Return how far those have passed that wait and have passed least."""
        turns, clock_s = self.turns[priority], self.clocks_s[priority]
        while turns:
            passed_s, name, line = turns[0]
            if not line.share.waiting:
                heappop(turns)
                self.unlist(line)
                continue
            now_s = line.turn_s(clock_s)
            if now_s <= passed_s:
                clock_s = self.clocks_s[priority] = max(clock_s, passed_s)
                break
            heapreplace(turns, (now_s, name, line))
        return clock_s

    def unlist(self, line: Line) -> None:
        """Take note that a line has left `turns`."""
        line.listed = False
        if len(self.lines) > IDLE_LEN_MAX:
            del self.lines[line.share]

    def serve(self, line: Line) -> None:
        """Go on from the line whose turn it is, and which is served now."""
        priority = line.share.priority
        passed_s = self.turns[priority][0][0]
        if passed_s > self.clocks_s[priority]:
            self.clocks_s[priority] = passed_s
        line.since_s = self.clocks_s[priority]

    def _compact(self, priority: int) -> None:
        """Drop tenants of whom nothing waits any more; rarer, the more there are."""
        kept = []
        for entry in self.turns[priority]:
            if entry[2].share.waiting:
                kept.append(entry)
            else:
                self.unlist(entry[2])
        heapify(kept)
        self.turns[priority] = kept
        self._kept_max[priority] = 2 * len(kept) + STALE_LEN_MIN
