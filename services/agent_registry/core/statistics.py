"""How an agent does on each task type, recent outcomes weighing more."""

from __future__ import annotations

from dataclasses import dataclass

half_life_outcomes = 50
"""After so many outcomes an old one weighs half."""
types_len_max = 64
"""Task types kept for one agent; the one heard of longest ago goes first."""

KEPT = 0.5 ** (1 / half_life_outcomes)


@dataclass(slots=True)
class TypeStatistics:
    """Outcomes of one task type."""

    completed: int = 0
    failed: int = 0
    weight: float = 0.0
    """Outcomes, faded."""
    successes: float = 0.0
    """Successes, faded."""
    run_weight: float = 0.0
    run_s: float = 0.0
    """Sum of the times of the successes, faded."""

    def add(self, *, succeeded: bool, run_s: float) -> None:
        """Count one outcome."""
        self.weight = self.weight * KEPT + 1.0
        self.successes *= KEPT
        if succeeded:
            self.completed += 1
            self.successes += 1.0
            self.run_weight = self.run_weight * KEPT + 1.0
            self.run_s = self.run_s * KEPT + run_s
        else:
            self.failed += 1

    def retract_failure(self) -> None:
        """Take one failure back that was not the agent's fault after all."""
        self.failed = max(0, self.failed - 1)
        self.weight = max(self.successes, self.weight - 1.0)

    @property
    def success_rate(self) -> float:
        """Share that succeeded, recent ones weighing more; 1 without any outcome."""
        return self.successes / self.weight if self.weight else 1.0

    @property
    def mean_run_s(self) -> float:
        """Mean time of the successes, recent ones weighing more."""
        return self.run_s / self.run_weight if self.run_weight else 0.0


class Statistics:
    """All task types of one agent."""

    __slots__ = ("_types",)

    def __init__(self) -> None:
        self._types: dict[str, TypeStatistics] = {}

    def of(self, task_type: str) -> TypeStatistics:
        """Return the statistics of a task type, new or known."""
        known = self._types.pop(task_type, None)
        if known is None:
            known = TypeStatistics()
            if len(self._types) >= types_len_max:
                del self._types[next(iter(self._types))]
        self._types[task_type] = known
        return known

    def known(self, task_type: str) -> TypeStatistics:
        """Return the statistics of a task type; empty ones when there is none."""
        return self._types.get(task_type) or TypeStatistics()

    @property
    def mean_run_s(self) -> float:
        """Mean time of the successes of all types, recent ones weighing more; 0 without any."""
        weight = sum(each.run_weight for each in self._types.values())
        return sum(each.run_s for each in self._types.values()) / weight if weight else 0.0

    def put(self, task_type: str, numbers: TypeStatistics) -> None:
        """Take over the statistics of a task type."""
        self.of(task_type)
        self._types[task_type] = numbers

    def items(self) -> list[tuple[str, TypeStatistics]]:
        """Return the task types by name."""
        return sorted(self._types.items())
