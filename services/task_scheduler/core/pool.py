"""Pools: what connected agents can do, with heaps of what they could work on next.

An entry of a heap may be out of date in one direction only, too early; whoever takes it corrects
it. Of several entries of one lane the one counts that is listed; the others go when they surface.
"""

from __future__ import annotations

from heapq import heappush

from services.task_scheduler.core.lane import Lane
from services.task_scheduler.core.shares import PRIORITIES, Share

First = tuple[int, int, int, Lane]
"""Deadline and place of a lane's first task, the lane's number, the lane."""
Oldest = tuple[int, int, Lane]
"""Place of a lane's oldest task, the lane's number, the lane."""


class Line:
    """The lanes of one tenant and priority that a pool can serve."""

    __slots__ = ("aged", "elders", "heads", "lanes", "listed", "share")

    def __init__(self, share: Share) -> None:
        self.share = share
        self.listed = False
        self.heads: list[First] = []
        self.lanes: dict[int, First] = {}
        """Entries of `heads` that count, by lane."""
        self.elders: list[Oldest] = []
        self.aged: dict[int, Oldest] = {}
        """Entries of `elders` that count, by lane."""


class Pool:
    """A distinct set of capabilities that connected agents have."""

    __slots__ = ("capabilities", "classes", "grants", "lines", "mask", "members", "turns")

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
        elder = line.aged.get(number)
        if elder is None or oldest[0] < elder[0]:
            line.aged[number] = elder = (oldest[0], number, lane)
            heappush(line.elders, elder)
        if not line.listed:
            line.listed = True
            heappush(self.turns[share.priority], (share.passed_s, share.name, line))
            self.mask |= 1 << share.priority
