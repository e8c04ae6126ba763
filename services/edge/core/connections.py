"""The table of connections: bounded, and when it is full the longest idle one makes room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

C = TypeVar("C")


class Connections(Generic[C]):
    """Connections by their number, longest idle first.

    A connection is idle while nothing of substance passes in either direction: a dashboard that
    only watches is in use, one that only answers pings is not.
    """

    def __init__(self, connections_max: int) -> None:
        assert connections_max >= 1
        self._connections_max = connections_max
        self._by_idleness: OrderedDict[int, C] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_idleness)

    def __iter__(self) -> Iterator[C]:
        return iter(tuple(self._by_idleness.values()))

    def get(self, number: int) -> C | None:
        """Return the connection, or None when it is gone."""
        return self._by_idleness.get(number)

    def admit(self, number: int, connection: C) -> C | None:
        """Add a connection; return the one that has to go for it, already removed, if any."""
        evicted = None
        if len(self._by_idleness) >= self._connections_max:
            _, evicted = self._by_idleness.popitem(last=False)
        self._by_idleness[number] = connection
        return evicted

    def touch(self, number: int) -> None:
        """Note that a connection is in use."""
        if number in self._by_idleness:
            self._by_idleness.move_to_end(number)

    def remove(self, number: int) -> None:
        """Forget a connection that is gone."""
        self._by_idleness.pop(number, None)
