"""Pools: what connected agents can do, with heaps of what they could work on next.

An entry of a heap may be out of date in one direction only, too early; whoever takes it corrects
it. Of several entries of one lane the one counts that is listed; the others go when they surface.
"""

from __future__ import annotations

from heapq import heapify, heappush

from services.task_scheduler.core.lane import Lane
from services.task_scheduler.core.shares import PRIORITIES, Share

First = tuple[int, int, int, Lane]
"""Deadline and place of a lane's first task, the lane's number, the lane."""
Oldest = tuple[int, int, Lane]
"""Place of a lane's oldest task, the lane's number, the lane."""


STALE_LEN_MIN = 64


class Elders:
    """Lanes by their oldest task."""

    __slots__ = ("_kept_max", "heap", "listed")

    def __init__(self) -> None:
        self.heap: list[Oldest] = []
        self.listed: dict[int, Oldest] = {}
        """Entries of `heap` that count, by lane."""
        self._kept_max = STALE_LEN_MIN

    def offer(self, place: int, lane: Lane) -> None:
        """List a lane, or note that its oldest task comes earlier than listed."""
        number = lane.number
        known = self.listed.get(number)
        if known is None or place < known[0]:
            if len(self.heap) >= self._kept_max:
                self._compact()
            self.listed[number] = entry = (place, number, lane)
            heappush(self.heap, entry)

    def _compact(self) -> None:
        """Drop lanes that have emptied behind one that waits long; rarer, the more there are."""
        self.heap = [e for e in self.heap if self.listed.get(e[1]) == e and e[2].waiting]
        self.listed = {entry[1]: entry for entry in self.heap}
        heapify(self.heap)
        self._kept_max = 2 * len(self.heap) + STALE_LEN_MIN


class Line:
    """The lanes of one tenant and priority that a pool can serve."""

    __slots__ = ("elders", "heads", "lanes", "listed", "share")

    def __init__(self, share: Share) -> None:
        self.share = share
        self.listed = False
        self.heads: list[First] = []
        self.lanes: dict[int, First] = {}
        """Entries of `heads` that count, by lane."""
        self.elders = Elders()


class Pool:
    """A distinct set of capabilities that connected agents have."""

    __slots__ = (
        "capabilities",
        "classes",
        "elders",
        "grants",
        "lines",
        "mask",
        "members",
        "peak",
        "turns",
    )

    def __init__(self, capabilities: frozenset[str]) -> None:
        self.capabilities = capabilities
        self.classes = 0
        """Capability classes of routers that share it."""
        self.members = 0
        """Agents that have it."""
        self.grants = 0
        self.mask = 0
        """Bit p says that a lane of priority p may have a task."""
        # By priority: (how far the tenant had passed, its name, line).
        self.turns: list[list[tuple[float, str, Line]]] = [[] for _ in range(PRIORITIES)]
        self.lines: dict[Share, Line] = {}
        self.elders = [Elders() for _ in range(PRIORITIES)]
        """By priority: the lanes of all tenants."""
        self.peak = 0
        """The highest priority served since a forgotten task was looked for."""

    def offer(self, lane: Lane) -> None:
        """List a lane, or note that its first or oldest task comes earlier than listed."""
        head, oldest = lane.head(), lane.oldest()
        if head is None or oldest is None:
            return
        share, number = lane.share, lane.number
        line = self.lines.get(share)
        if line is None:
            line = self.lines[share] = Line(share)
        first = line.lanes.get(number)
        if first is None or head[0] < first[0] or (head[0] == first[0] and head[1] < first[1]):
            line.lanes[number] = first = (head[0], head[1], number, lane)
            heappush(line.heads, first)
        line.elders.offer(oldest[0], lane)
        self.elders[share.priority].offer(oldest[0], lane)
        if not line.listed:
            line.listed = True
            heappush(self.turns[share.priority], (share.passed_s, share.name, line))
            self.mask |= 1 << share.priority
