"""The dispatch workload: 8 task types, 200-byte payloads, handlers that return at once."""

from __future__ import annotations

from dataclasses import dataclass

TYPES = tuple(f"bench.{letter}" for letter in "abcdefgh")
PAYLOAD = b'{"text":"' + b"x" * 189 + b'"}'
AGENTS = 100
HOSTS = 2
WINDOW = 2000
"""Unfinished tasks of the submitter at most: enough that nothing waits for it."""


@dataclass(frozen=True)
class Throughput:
    """One closed-loop run: first submit to last completion known at the submitter."""

    tasks: int
    seconds: float
    cpu: dict[str, float]
    memory_mb: dict[str, float]
    foreign_cpu: float

    @property
    def rate(self) -> float:
        """Tasks a second."""
        return self.tasks / self.seconds

    @property
    def cpu_per_thousand(self) -> float:
        """CPU seconds of all processes for 1,000 tasks."""
        return sum(self.cpu.values()) / self.tasks * 1000


@dataclass(frozen=True)
class Latency:
    """One open-loop run: each latency counts from the instant a task was due."""

    offered: float
    achieved: float
    end_to_end_ms: list[float]
    assignment_ms: list[float]
    cpu: dict[str, float]
    seconds: float
    foreign_cpu: float = 0.0


def percentile(values: list[float], share: float) -> float:
    """Nearest-rank percentile of unsorted values; NaN without any."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
