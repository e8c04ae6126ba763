"""The agents that are connected, as rows of arrays, and the classes of what they can do.

Load and blocks change with every task, so they are kept by increments: a choice reads arrays and
never walks the agents.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from services.kernel.versions import mark

if TYPE_CHECKING:
    from services.routing.core.session import Session

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]

LOAD_WEIGHT = 100.0
"""Points of a wholly free agent in the formula."""


class Block(IntEnum):
    """Why an agent gets no work, the gravest last."""

    OPEN = 0
    PAUSED = 1
    BREAKER = 2
    DRAINING = 3
    QUARANTINED = 4
    SUSPECT = 5


_OPEN = Block.OPEN  # named once, as in `work`


class Part:
    """What one partition of the scheduler has of a class."""

    __slots__ = ("announced", "granted", "heard_s", "waiting")

    def __init__(self) -> None:
        self.granted = 0
        """Tasks granted on its credit since the dispatch stream began."""
        self.waiting = 0
        """Tasks granted on its credit that no agent has yet."""
        self.announced = (-1, -1, -1)
        """Credit, agent count and look-ahead as the scheduler knows them."""
        self.heard_s = -math.inf
        """When it granted something last, or its stream began."""


class CapabilityClass:
    """All agents with one set of capabilities, in the same versions."""

    __slots__ = (
        "agent_count",
        "bit",
        "capabilities",
        "class_id",
        "free",
        "free_slots",
        "look_ahead",
        "names",
        "pace",
        "parts",
        "placed",
        "versions",
        "waiting",
        "working_count",
    )

    def __init__(self, class_id: int, capabilities: frozenset[str], partitions: int = 1) -> None:
        self.class_id = class_id
        self.bit = 1 << class_id
        self.capabilities = capabilities
        self.names = tuple(sorted(each for each in capabilities if mark not in each))
        self.versions = tuple(sorted(each for each in capabilities if mark in each))
        self.agent_count = 0
        self.working_count = 0
        self.free: dict[int, Session] = {}
        """Those of its agents that can take a task now, by row."""
        self.free_slots = 0
        self.parts = [Part() for _ in range(partitions)]
        self.waiting = 0
        """Tasks granted on its credit that no agent has yet, of all partitions."""
        self.look_ahead = 16
        """Tasks it may hold beyond its free slots."""
        self.placed = 0
        """Tasks given to agents since the pace was last taken."""
        self.pace = 0.0
        """Tasks a second that its agents take."""


class Fleet:
    """Rows of agents, and what each class has free."""

    def __init__(self) -> None:
        self.sessions: list[Session | None] = []
        self.points: FloatArray = np.empty(0)
        """Load points of the formula for agents that can take a task now, -inf for the others."""
        self.slowdown: FloatArray = np.empty(0)
        """How many times longer a task takes on an agent for its load, since a busy one shares
        itself among its tasks; inf for those that can take none."""
        self.cost: FloatArray = np.empty(0)
        self.block: NDArray[np.int8] = np.empty(0, np.int8)
        self.model_row: IntArray = np.empty(0, np.intp)
        self.by_capability: dict[str, set[int]] = {}
        self.classes: dict[frozenset[str], CapabilityClass] = {}
        self.class_by_id: dict[int, CapabilityClass] = {}
        self.free_mask = 0
        """Bits of the classes in which an agent can take a task now."""
        self.working_mask = 0
        """Bits of the classes in which an agent works, free or not."""
        self.changed: set[CapabilityClass] = set()
        """Classes whose credit may have changed."""
        self.partitions = 1
        """Partitions of the scheduler, each of which grants for itself."""
        self.open_count = 0
        """Agents that nothing stops, free or not."""
        self.capacity_slots = 0
        self.busy_slots = 0
        self._vacant: list[int] = []
        self._class_ids = 0

    def __len__(self) -> int:
        return len(self.sessions) - len(self._vacant)

    def class_of(self, capabilities: Iterable[str]) -> CapabilityClass:
        """Return the class of a set of capabilities, new or known."""
        key = frozenset(capabilities)
        kind = self.classes.get(key)
        if kind is None:
            kind = CapabilityClass(self._class_ids, key, self.partitions)
            self._class_ids += 1
            self.classes[key] = kind
            self.class_by_id[kind.class_id] = kind
        return kind

    def free_classes(self, class_mask: int) -> list[CapabilityClass]:
        """Return the classes of a mask in which an agent can take a task now."""
        mask = self.free_mask & class_mask
        kinds = []
        while mask:
            bit = mask & -mask
            kinds.append(self.class_by_id[bit.bit_length() - 1])
            mask ^= bit
        return kinds

    def divide(self, partitions: int) -> None:
        """Note into how many partitions the scheduler is divided."""
        self.partitions = partitions
        for kind in self.classes.values():
            kind.parts.extend(Part() for _ in range(partitions - len(kind.parts)))

    def forget_empty_classes(self) -> None:
        """Drop classes without agents and tasks; legal only while no dispatch stream runs."""
        for key, kind in list(self.classes.items()):
            if not kind.agent_count and not kind.waiting:
                del self.classes[key]
                del self.class_by_id[kind.class_id]
                self.changed.discard(kind)

    def join(self, session: Session) -> int:
        """Give the agent of a session a row and return it."""
        if not self._vacant:
            self._grow()
        row = self._vacant.pop()
        self.sessions[row] = session
        session.row = row
        session.kind = self.class_of((*session.capabilities, *session.versions))
        self.cost[row] = session.cost_per_task
        self.model_row[row] = -1
        for name in session.kind.names:
            self.by_capability.setdefault(name, set()).add(row)
        session.kind.agent_count += 1
        self.capacity_slots += session.max_concurrency
        session.counted_free = 0
        session.counted_working = False
        self.refresh(session)
        return row

    def leave(self, session: Session) -> None:
        """Take the row of a session away."""
        row = session.row
        kind = session.kind
        assert kind is not None and self.sessions[row] is session
        self._count(session, kind, 0, working=False)
        self.capacity_slots -= session.max_concurrency
        self.busy_slots -= session.load
        kind.agent_count -= 1
        self.changed.add(kind)
        for name in kind.names:
            rows = self.by_capability[name]
            rows.discard(row)
            if not rows:
                del self.by_capability[name]
        self.points[row] = -np.inf
        self.slowdown[row] = np.inf
        self.block[row] = Block.SUSPECT
        self.sessions[row] = None
        session.row = -1
        self._vacant.append(row)

    def take(self, session: Session) -> None:
        """Count one more task on an agent."""
        session.load += 1
        self.busy_slots += 1
        self.refresh(session)

    def release(self, session: Session) -> None:
        """Count one task less on an agent."""
        session.load -= 1
        if session.row >= 0:
            self.busy_slots -= 1
            self.refresh(session)

    def refresh(self, session: Session) -> None:
        """Recount an agent after its load, credit or block has changed."""
        row = session.row
        if row < 0:
            return  # superseded: its leases end after it
        kind = session.kind
        assert kind is not None
        block = session.block()
        free = session.free_slots() if block is _OPEN else 0
        self.block[row] = block
        if free:
            session.load_points = LOAD_WEIGHT * free / session.max_concurrency
            session.slowdown = 1.0 + session.load / session.max_concurrency
        else:
            session.load_points = -math.inf
            session.slowdown = math.inf
        self.points[row] = session.load_points
        self.slowdown[row] = session.slowdown
        self._count(session, kind, free, working=block is _OPEN)

    def _count(self, session: Session, kind: CapabilityClass, free: int, *, working: bool) -> None:
        if free != session.counted_free:
            kind.free_slots += free - session.counted_free
            session.counted_free = free
            if free:
                kind.free[session.row] = session
            else:
                del kind.free[session.row]
            if kind.free_slots:
                self.free_mask |= kind.bit
            else:
                self.free_mask &= ~kind.bit
            self.changed.add(kind)
        if working is not session.counted_working:
            change = 1 if working else -1
            kind.working_count += change
            self.open_count += change
            session.counted_working = working
            if kind.working_count:
                self.working_mask |= kind.bit
            else:
                self.working_mask &= ~kind.bit
            self.changed.add(kind)

    def _grow(self) -> None:
        old = len(self.sessions)
        new = max(64, old * 2)
        self.sessions.extend([None] * (new - old))
        self.points = _extended(self.points, new, -np.inf)
        self.slowdown = _extended(self.slowdown, new, np.inf)
        self.cost = _extended(self.cost, new, 0.0)
        block = np.full(new, Block.SUSPECT, np.int8)
        block[:old] = self.block
        self.block = block
        rows = np.full(new, -1, np.intp)
        rows[:old] = self.model_row
        self.model_row = rows
        # Low rows first: the arrays stay dense at their beginning.
        self._vacant.extend(range(new - 1, old - 1, -1))


def _extended(array: FloatArray, length: int, fill: float) -> FloatArray:
    grown = np.full(length, fill)
    grown[: len(array)] = array
    return grown
