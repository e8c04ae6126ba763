"""How many connections each caller has: no one of them takes the places of all."""

from __future__ import annotations


class Callers:
    """Connections by caller."""

    def __init__(self, each_max: int) -> None:
        self._each_max = each_max
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def full(self, caller: str) -> bool:
        """Tell whether one more connection of this caller has no place."""
        return self._counts.get(caller, 0) >= self._each_max

    def enter(self, caller: str) -> None:
        """Count a connection."""
        self._counts[caller] = self._counts.get(caller, 0) + 1

    def leave(self, caller: str) -> None:
        """Count one less."""
        count = self._counts[caller] - 1
        if count:
            self._counts[caller] = count
        else:
            del self._counts[caller]
