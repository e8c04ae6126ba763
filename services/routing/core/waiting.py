"""Tasks that are granted and have no agent yet: one order over all, by priority and then grant."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Collection, Iterator
from itertools import islice
from operator import attrgetter

from services.routing.core.assignment import Lease
from services.routing.core.demand import Demand

_order = attrgetter("order")


class Waiting:
    """The window of tasks that late binding chooses from, kept by demand."""

    def __init__(self) -> None:
        self._demands: dict[Demand, None] = {}
        self._count = 0
        self._number = 0

    def __len__(self) -> int:
        return self._count

    @property
    def demands(self) -> Collection[Demand]:
        """Demands somebody waits with."""
        return self._demands.keys()

    def add(self, lease: Lease) -> None:
        """Queue a lease behind those of its priority."""
        demand = lease.demand
        assert demand is not None
        self._number += 1
        lease.order = (-lease.priority, self._number)
        queue = demand.waiting
        if not queue or queue[-1].order < lease.order:
            queue.append(lease)
        else:
            insort(queue, lease, key=_order)
        self._demands[demand] = None
        self._count += 1

    def remove(self, lease: Lease) -> None:
        """Take a lease out."""
        demand = lease.demand
        assert demand is not None
        queue = demand.waiting
        index = 0 if queue[0] is lease else bisect_left(queue, lease.order, key=_order)
        assert queue[index] is lease
        del queue[index]
        if not queue:
            del self._demands[demand]
        self._count -= 1

    def window(self, length: int, class_mask: int, skipped: Collection[Lease]) -> list[Lease]:
        """Return the first leases in order that some class of `class_mask` could take."""
        queues = [d.waiting for d in self._demands if d.class_mask & class_mask]
        if not skipped:
            if len(queues) == 1:
                return queues[0][:length]
            return list(islice(_merged(queues), length))
        merged = (lease for lease in _merged(queues) if lease not in skipped)
        return list(islice(merged, length))

    def stranded(self, working_mask: int) -> list[Lease]:
        """Return all leases that no class of `working_mask` could ever take."""
        return [
            lease
            for demand in self._demands
            if not demand.class_mask & working_mask
            for lease in demand.waiting
        ]

    def __iter__(self) -> Iterator[Lease]:
        return _merged([demand.waiting for demand in self._demands])


def _merged(queues: list[list[Lease]]) -> Iterator[Lease]:
    return iter(queues[0]) if len(queues) == 1 else heapq.merge(*queues, key=_order)
