"""Tasks that are granted and have no agent yet: one order over all, by priority and then grant."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Generic, TypeVar

from services.routing.core.assignment import Lease
from services.routing.core.demand import Demand

T = TypeVar("T")
_order = attrgetter("order")


class Waiting:
    """The tasks that late binding chooses from, all in one order."""

    def __init__(self) -> None:
        self._queue: list[Lease] = []
        self._demands: dict[Demand, None] = {}
        """Those that somebody waits with."""
        self._number = 0

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, lease: Lease) -> None:
        """Queue a lease behind those of its priority."""
        demand = lease.demand
        assert demand is not None
        demand.waiting_count += 1
        self._demands[demand] = None
        self._number += 1
        lease.order = (-lease.priority, self._number)
        queue = self._queue
        if not queue or queue[-1].order < lease.order:
            queue.append(lease)
        else:
            insort(queue, lease, key=_order)

    def remove(self, lease: Lease) -> None:
        """Take a lease out."""
        demand = lease.demand
        assert demand is not None
        demand.waiting_count -= 1
        if not demand.waiting_count:
            del self._demands[demand]
        queue = self._queue
        index = 0 if queue[0] is lease else bisect_left(queue, lease.order, key=_order)
        assert queue[index] is lease
        del queue[index]

    def stranded(self, working_mask: int) -> list[Lease]:
        """Return all leases that no class of `working_mask` could ever take."""
        if all([demand.class_mask & working_mask for demand in self._demands]):
            return []
        return [lease for lease in self._queue if not _fits(lease, working_mask)]

    def __iter__(self) -> Iterator[Lease]:
        return iter(self._queue)


class Window(Generic[T]):
    """The first tasks in order that can be taken now: one pass over those that wait.

    While agents only become busy, a task that nobody could take before cannot be taken later.
    """

    def __init__(
        self, waiting: Waiting, length: int, class_mask: int, beside: Callable[[Lease], T]
    ) -> None:
        """Begin with the first.

        Args:
            waiting: All that wait.
            length: How many are chosen from.
            class_mask: The classes that are free.
            beside: Gives what is kept beside each of them.
        """
        self._source = iter(tuple(waiting))
        self._length = length
        self._mask = class_mask
        self._beside = beside
        self._leases: list[tuple[Lease, T]] = []

    def leases(self, class_mask: int) -> list[tuple[Lease, T]]:
        """Return them, given the classes that are free now."""
        leases = self._leases
        if class_mask != self._mask:
            self._mask = class_mask
            leases[:] = [pair for pair in leases if _fits(pair[0], class_mask)]
        missing = self._length - len(leases)
        if missing > 0:
            for lease in self._source:
                if _fits(lease, class_mask):
                    leases.append((lease, self._beside(lease)))
                    missing -= 1
                    if not missing:
                        break
        return leases


def _fits(lease: Lease, class_mask: int) -> bool:
    assert lease.demand is not None
    return bool(lease.demand.class_mask & class_mask)
