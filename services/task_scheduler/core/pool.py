"""Pools: what connected agents can do, with heaps of what they could work on next.

An entry of a heap may be out of date in one direction only, too early; whoever takes it corrects
it.
"""

from __future__ import annotations

from heapq import heappush

from services.task_scheduler.core.lane import Lane
from services.task_scheduler.core.shares import PRIORITIES, Share


class Line:
    """The lanes of one tenant and priority that a pool can serve."""

    __slots__ = ("aged", "elders", "heads", "lanes", "listed", "share")

    def __init__(self, share: Share) -> None:
        self.share = share
        self.listed = False
        # (deadline, place, number of the lane, lane) of each lane's first task.
        self.heads: list[tuple[int, int, int, Lane]] = []
        self.lanes: set[int] = set()
        # (place, number of the lane, lane) of each lane's oldest task.
        self.elders: list[tuple[int, int, Lane]] = []
        self.aged: set[int] = set()


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

    def offer(self, lane: Lane, *, first: bool) -> None:
        """List a lane; again when it got a new first or oldest task."""
        head, oldest = lane.head(), lane.oldest()
        if head is None or oldest is None:
            return
        share, number = lane.share, lane.number
        line = self.lines.get(share)
        if line is None:
            line = self.lines[share] = Line(share)
        if first or number not in line.lanes:
            line.lanes.add(number)
            heappush(line.heads, (head[0], head[1], number, lane))
        if first or number not in line.aged:
            line.aged.add(number)
            heappush(line.elders, (oldest[0], number, lane))
        if not line.listed:
            line.listed = True
            heappush(self.turns[share.priority], (share.passed_s, share.name, line))
            self.mask |= 1 << share.priority
