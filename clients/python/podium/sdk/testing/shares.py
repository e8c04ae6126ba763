"""Who may start under a key: so many at once, and so many in a time."""

from __future__ import annotations

import math
from collections.abc import Iterable

from podium.sdk.testing.entries import Entry
from podium.v1 import task_pb2


def wait_s(entry: Entry, entries: Iterable[Entry], now_s: float) -> float:
    """Returns how long a task has to wait for its keys: infinity where that is no matter of time.

    Keys belong to a tenant. There are no limits of settings here: what a task says counts.
    """
    spec, waits_s = entry.spec, [0.0]
    others = [each for each in entries if each.spec.tenant == spec.tenant]
    for key in spec.concurrency_keys:
        running = sum(key in each.spec.concurrency_keys for each in others if each.agent_id)
        if running >= (spec.concurrency_limit or 1):
            waits_s.append(math.inf)
    for rate in spec.rate_limits:
        period_s = rate.period.ToTimedelta().total_seconds()
        started_s = sorted(
            at_s for each in others if _has(each, rate.key) for at_s in each.starts_s
        )
        if len(started_s) >= rate.limit:
            # When the oldest of so many leaves the period, which slides.
            waits_s.append(max(0.0, started_s[-rate.limit] + period_s - now_s))
    return max(waits_s)


def _has(entry: Entry, key: str) -> bool:
    rates: Iterable[task_pb2.RateLimit] = entry.spec.rate_limits
    return any(rate.key == key for rate in rates)
