"""Numbers about numbers: percentiles, rates, and how people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Latency:
    """How long something took, over many times, in seconds."""

    count: int = 0
    p50_s: float = 0.0
    p90_s: float = 0.0
    p99_s: float = 0.0
    max_s: float = 0.0

    @classmethod
    def of(cls, durations_s: Sequence[float]) -> Latency:
        """Returns the summary of any durations, none included."""
        if not durations_s:
            return cls()
        ordered = sorted(durations_s)
        return cls(
            len(ordered),
            percentile(ordered, 50),
            percentile(ordered, 90),
            percentile(ordered, 99),
            ordered[-1],
        )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Returns the least value that is not below `percent` of all (nearest rank)."""
    rank = math.ceil(len(ordered) * percent / 100)
    return ordered[max(0, rank - 1)]


def mean(values: Sequence[float]) -> float:
    """Returns the mean; 0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def duration(seconds: float) -> str:
    """Says a duration as people do: 0.4 ms, 38 ms, 2.1 s, 1:05 min."""
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"


def size(count: int) -> str:
    """Says a number of bytes: 812 bytes, 14.2 kB, 37.7 MB."""
    if count < 1_000:
        return f"{count} bytes"
    if count < 1_000_000:
        return f"{count / 1_000:.1f} kB"
    return f"{count / 1_000_000:.1f} MB"


def many(count: int, noun: str) -> str:
    """Says how many there are of something: 1 error, 2 errors."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def share(part: float, whole: float) -> str:
    """Says a part of a whole in percent; a dash of nothing."""
    return f"{100 * part / whole:.0f} %" if whole else "-"
