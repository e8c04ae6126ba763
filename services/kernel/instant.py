"""A point in time as pure data, so that cores can be told the time without owning a clock."""

from __future__ import annotations

from typing import NamedTuple


class Instant(NamedTuple):
    """One moment on two clocks: leases and timers use the first, people read the second."""

    mono_s: float
    """Seconds on the monotonic clock: only differences mean something."""
    wall_ms: int
    """Milliseconds since the Unix epoch: may jump when the machine's clock is set."""
