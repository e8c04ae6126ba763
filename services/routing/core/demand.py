"""What tasks ask for: one record for each combination of capabilities, with the agents that fit.

Members are kept up to date as agents come and go, so that a task finds its candidates in place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from services.kernel.versions import covers, mark, plain
from services.routing.core.fleet import FloatArray, IntArray

if TYPE_CHECKING:
    from services.routing.core.fleet import CapabilityClass, Fleet
    from services.routing.core.session import Session

MATCH_WEIGHT = 20.0
"""Points of a perfect capability match in the formula."""

demands_len_max = 1_024

Key = tuple[frozenset[str], frozenset[str]]


class Demand:
    """One combination of required and preferred capabilities."""

    __slots__ = (
        "_names",
        "_points",
        "_rows",
        "class_mask",
        "match_list",
        "members",
        "outdated",
        "outdated_mask",
        "places",
        "preferred",
        "required",
        "row_list",
        "version",
        "waiting_count",
    )

    def __init__(self, required: frozenset[str], preferred: frozenset[str]) -> None:
        self.required = required
        self.preferred = preferred
        self.class_mask = 0
        """Bits of the classes whose agents have all that is required."""
        self.members: dict[int, float] = {}
        """Rows of those agents, and how well each matches."""
        self.outdated_mask = 0
        """Bits of the classes whose agents have all of it, and not all in the version."""
        self.outdated: set[int] = set()
        """Rows of those."""
        self._names = frozenset(map(plain, required)) if any(map(_asks, required)) else None
        self.waiting_count = 0
        """Tasks without an agent."""
        self.version = 0
        self._rows: IntArray | None = None
        self.match_list: list[float] = []
        """Capability match of each of `rows`, 0 to 1."""
        self.row_list: list[int] = []
        """The same as `rows`, for reading single ones."""
        self.places: dict[int, int] = {}
        """Where each row stands in `rows`."""
        self._points: FloatArray = np.empty(0)

    @property
    def rows(self) -> IntArray:
        """Rows of the members."""
        return self._rows if self._rows is not None else self._build()

    @property
    def points(self) -> FloatArray:
        """Points for the capability match of each of `rows`."""
        if self._rows is None:
            self._build()
        return self._points

    def consider(self, session: Session) -> None:
        """Take an agent in if it fits."""
        kind = session.kind
        assert kind is not None
        if self.outdated_mask & kind.bit:
            self.outdated.add(session.row)
        if self.class_mask & kind.bit:
            self.members[session.row] = self._match_of(session)
            self._rows = None
            self.version += 1

    def forget(self, row: int) -> None:
        """Leave an agent out that is gone."""
        self.outdated.discard(row)
        if self.members.pop(row, None) is not None:
            self._rows = None
            self.version += 1

    def learn_class(self, kind: CapabilityClass) -> None:
        """Note whether agents of a class fit."""
        if covers(kind.capabilities, self.required):
            self.class_mask |= kind.bit
        elif self._names and self._names <= kind.capabilities:
            self.outdated_mask |= kind.bit

    def _build(self) -> IntArray:
        rows = self._rows = np.fromiter(self.members, np.intp, len(self.members))
        self.row_list = list(self.members)
        self.match_list = list(self.members.values())
        self.places = {row: place for place, row in enumerate(self.members)}
        self._points = np.array(self.match_list, np.float64) * MATCH_WEIGHT
        return rows

    def _match_of(self, session: Session) -> float:
        wanted = self.required | self.preferred
        if not wanted:
            return 1.0
        have, kind = session.capabilities, session.kind
        assert kind is not None
        return sum(
            have.get(plain(each), 0.0)
            for each in wanted
            if mark not in each or covers(kind.capabilities, frozenset((each,)))
        ) / len(wanted)


def _asks(wanted: str) -> bool:
    return mark in wanted


class Demands:
    """The demands seen lately, each with its members."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._known: dict[Key, Demand] = {}

    def __len__(self) -> int:
        return len(self._known)

    def of(self, required: Iterable[str], preferred: Iterable[str]) -> Demand:
        """Return the demand for these capabilities."""
        key = (frozenset(required), frozenset(preferred))
        demand = self._known.get(key)
        if demand is None:
            if len(self._known) >= demands_len_max:
                self._shrink()
            demand = self._known[key] = self._new(*key)
        return demand

    def joined(self, session: Session) -> None:
        """Tell every demand of an agent that came."""
        kind = session.kind
        assert kind is not None
        for demand in self._known.values():
            demand.learn_class(kind)
            demand.consider(session)

    def left(self, row: int) -> None:
        """Tell every demand of an agent that went."""
        for demand in self._known.values():
            demand.forget(row)

    def _new(self, required: frozenset[str], preferred: frozenset[str]) -> Demand:
        demand = Demand(required, preferred)
        for kind in self._fleet.classes.values():
            demand.learn_class(kind)
        index = self._fleet.by_capability
        # Only agents with the rarest of the required capabilities can fit.
        found = [index.get(plain(each), set()) for each in required]
        rarest = min(found, key=len) if found else set(range(len(self._fleet.sessions)))
        for row in rarest:
            session = self._fleet.sessions[row]
            if session is not None:
                demand.consider(session)
        return demand

    def _shrink(self) -> None:
        # The oldest half of those nobody waits with; they are rebuilt when asked for again.
        idle = [key for key, demand in self._known.items() if not demand.waiting_count]
        for key in idle[: demands_len_max // 2]:
            del self._known[key]
