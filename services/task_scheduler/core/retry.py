"""How long to wait before a failed attempt is repeated."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

Draw = Callable[[], float]
"""A seeded generator of numbers from 0 to 1: the core has no randomness of its own."""


class RetryPolicy(NamedTuple):
    """How often and when a failed attempt is repeated."""

    max_retries: int = 3
    """Retries after the first attempt."""
    initial_backoff_ms: int = 200
    multiplier: float = 2.0
    max_backoff_ms: int = 30_000
    jitter: float = 1.0
    """Share of the wait that is drawn at random; 1 is full jitter."""


def backoff_ms(policy: RetryPolicy, failures: int, draw: Draw) -> int:
    """Return the wait after the given number of failures in a row, at least 1."""
    # The exponent is cut before the power: 10.0 ** 400 would overflow, and 64 steps are past any
    # max_backoff already.
    steps = min(max(failures - 1, 0), 64)
    grown = policy.initial_backoff_ms * policy.multiplier**steps
    whole = min(grown, float(policy.max_backoff_ms))
    return round(whole * (1.0 - policy.jitter) + whole * policy.jitter * draw())
