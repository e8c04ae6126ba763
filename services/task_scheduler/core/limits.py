"""The bounds of the scheduler, each with its unit in the name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of what is kept in memory, and the times that rule leases and the queue."""

    open_tasks_max: int = 2_000_000
    open_bytes_max: int = 4 << 30
    ended_len_max: int = 100_000
    ended_bytes_max: int = 256 << 20
    dead_len_max: int = 100_000
    request_ids_len_max: int = 500_000
    lease_ttl_s: float = 30.0
    router_grace_s: float = 5.0
    """How long grants that no agent has taken stay with a router that is gone."""
    ageing_s: float = 60.0
