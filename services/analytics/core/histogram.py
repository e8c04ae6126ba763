"""Latencies in buckets that grow by 4 %: any percentile within 2 %, and histograms can be added."""

from __future__ import annotations

from math import ceil, log
from typing import NamedTuple

_unit_s = 1e-6
"""The least that is told apart."""
_growth = 1.04
_scale = 1.0 / log(_growth)
_bucket_max = ceil(log(1e9) * _scale * 2)
"""Beyond 10^12 s nothing is told apart; it bounds the buckets."""


def bucket(value_s: float) -> int:
    """Return the bucket of a duration."""
    if value_s <= _unit_s:
        return 0
    return min(ceil(log(value_s / _unit_s) * _scale), _bucket_max)


def middle(index: int) -> float:
    """Return the duration that is at most 2 % away from any in the bucket."""
    return _unit_s * _growth**index * 2.0 / (1.0 + _growth)


class Summary(NamedTuple):
    """What people ask of durations, in seconds."""

    times: int = 0
    p50_s: float = 0.0
    p95_s: float = 0.0
    p99_s: float = 0.0
    max_s: float = 0.0
    mean_s: float = 0.0


class Histogram:
    """Counts durations."""

    __slots__ = ("_buckets", "count", "max_s", "total_s")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.count = 0
        self.total_s = 0.0
        self.max_s = 0.0

    def add(self, index: int, value_s: float) -> None:
        """Count `value_s`, whose bucket is `index`: looked up once for many histograms."""
        buckets = self._buckets
        buckets[index] = buckets.get(index, 0) + 1
        self.count += 1
        self.total_s += value_s
        if value_s > self.max_s:
            self.max_s = value_s

    def merge(self, other: Histogram) -> None:
        """Add everything `other` has counted."""
        for index, count in other._buckets.items():
            self._buckets[index] = self._buckets.get(index, 0) + count
        self.count += other.count
        self.total_s += other.total_s
        self.max_s = max(self.max_s, other.max_s)

    def quantiles(self, shares: tuple[float, ...]) -> list[float]:
        """Return the durations that these shares, in rising order, do not exceed."""
        found: list[float] = []
        seen = 0
        for index in sorted(self._buckets):
            seen += self._buckets[index]
            while len(found) < len(shares) and seen >= ceil(shares[len(found)] * self.count):
                # The middle of the last bucket may lie above the greatest value.
                found.append(min(middle(index), self.max_s))
        return found or [0.0] * len(shares)

    def summary(self) -> Summary:
        """Return what was counted."""
        if not self.count:
            return Summary()
        p50, p95, p99 = self.quantiles((0.5, 0.95, 0.99))
        return Summary(self.count, p50, p95, p99, self.max_s, self.total_s / self.count)
