"""What operators decide of an agent: of each matter the newest decision holds, whoever was asked.

A decision carries the time at which it was made. The term, by which replicas of the registry judge
who knows an agent's session best, says nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Act(NamedTuple):
    """A decision of an operator."""

    kind: str
    """drain, quarantine, release or update."""
    at_ms: int
    """When it was made; later than any that its replica knew of the agent."""
    by: str = ""
    """The replica that was asked."""
    reason: str = ""
    instance_id: str = ""
    """The instance that a drain is of."""
    field: str = ""
    """The fact that an update changes."""
    value: object = None

    @property
    def matter(self) -> str:
        """What it is about: of several decisions on one matter the newest holds."""
        if self.kind == "update":
            return f"update {self.field}"
        return "quarantine" if self.kind == "release" else self.kind

    def outdoes(self, other: Act | None) -> bool:
        """Return whether it is newer than another decision on the same matter."""
        return other is None or (self.at_ms, self.by) > (other.at_ms, other.by)


def by_matter(acts: Iterable[Act]) -> dict[str, Act]:
    """Return decisions, each under its matter."""
    return {act.matter: act for act in acts}


def next_ms(acts: Mapping[str, Act], wall_ms: int) -> int:
    """Return a time for a new decision: now, or after those known, however far ahead."""
    return max(wall_ms, *(act.at_ms + 1 for act in acts.values())) if acts else wall_ms
