"""The bounds of the scheduler, each with its unit in the name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

URGENT_PRIORITY = 6
"""From which a task is urgent: it has room where there is none for others."""


class Rate(NamedTuple):
    """So many starts in a period."""

    limit: int
    period_ms: int


def _none() -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Limits:
    """Bounds of what is kept in memory, and the rules of leases and of the queue.

    A mapping by tenant may hold `*`, for tenants that it does not name. A mapping by concurrency
    key may hold `prefix*`: the longest that fits counts, and a name goes before all of them.
    """

    open_tasks_max: int = 2_000_000
    open_bytes_max: int = 4 << 30
    ended_len_max: int = 100_000
    ended_bytes_max: int = 256 << 20
    dead_len_max: int = 100_000
    dead_bytes_max: int = 256 << 20
    request_ids_len_max: int = 500_000
    retry_ids_len_max: int = 200_000
    lease_ttl_s: float = 30.0
    router_grace_s: float = 5.0
    """How long grants that no agent has taken stay with a router that is gone."""
    ageing_s: float = 60.0
    tenant_weights: Mapping[str, float] = field(default_factory=_none)
    """What tenants may use of the agents, relative to each other; 1 for those not named."""
    tenant_open_tasks_max: Mapping[str, float] = field(default_factory=_none)
    tenant_submits_per_s: Mapping[str, float] = field(default_factory=_none)
    concurrency_limits: Mapping[str, float] = field(default_factory=_none)
    """Running tasks of one tenant, by concurrency key."""
    shared_concurrency_limits: Mapping[str, float] = field(default_factory=_none)
    """Running tasks of all tenants, by concurrency key: these keys belong to nobody."""
    rate_limits: Mapping[str, Rate] = field(default_factory=_none)
    """Starts of one tenant in a period, by key."""
    shared_rate_limits: Mapping[str, Rate] = field(default_factory=_none)
    """Starts of all tenants in a period, by key."""
    rate_keys_len_max: int = 20_000
    """Rate keys of open tasks and of those that started within their period; of one tenant half of
    what the others leave."""
    lineage_depth_max: int = 64
    lineage_tasks_max: int = 4_096
    """Tasks that may descend from one, over all generations, while any of them is open."""
    schedules_len_max: int = 10_000
    log_watches_max: int = 256
    """Followers of the whole log."""
    task_watches_max: int = 10_000

    def of_tenant(self, values: Mapping[str, float], tenant: str) -> float | None:
        """Return what a mapping says of a tenant."""
        return values.get(tenant, values.get("*"))

    def concurrency_limit(self, key: str) -> int:
        """Return how many tasks of one tenant may run under a key; 0 when nothing is said."""
        return int(_matching(self.concurrency_limits, key) or 0)

    def shared_limit(self, key: str) -> int:
        """Return how many tasks of all tenants may run under a key; 0 when nothing is said."""
        return int(_matching(self.shared_concurrency_limits, key) or 0)

    def rate(self, key: str) -> Rate | None:
        """Return how many starts of one tenant a key allows, and in which period, if told."""
        return _matching(self.rate_limits, key)

    def shared_rate(self, key: str) -> Rate | None:
        """Return the same of all tenants together."""
        return _matching(self.shared_rate_limits, key)


def _matching(values: Mapping[str, T], key: str) -> T | None:
    if not values:
        return None
    if key in values:
        return values[key]
    fitting = [name for name in values if name.endswith("*") and key.startswith(name[:-1])]
    return values[max(fitting, key=len)] if fitting else None
