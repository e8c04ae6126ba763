"""Fairness between tenants, in agent-seconds used and not in tasks granted.

Each priority keeps, for each tenant, how far it has passed: agent-seconds over the tenant's weight.
Whoever has passed least goes next. A grant is charged with what such tasks of the tenant took so
far, and what they really took settles the difference, so that long tasks do not slip through while
they run. A tenant that comes back after a pause begins where those are that wait: it cannot save
up. What a tenant used while nobody else could want it, on agents that others cannot use, is held
against it for `WINDOW_S` at most.

How far a tenant has passed only grows; that is what makes heaps with late corrections right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import heappop, heappush, heapreplace
from typing import Any

PRIORITIES = 10
WINDOW_S = 600.0
"""How far, in agent-seconds over weight, a tenant can fall behind the others that wait."""
UNKNOWN_S = 1.0
"""What a task is charged with before one of its tenant and type has ended."""
SMOOTHING = 0.2
"""Share of the latest run in the expected one."""
TENANTS_LEN_MAX = 10_000
TYPES_LEN_MAX = 256
"""Types of a tenant whose length is remembered."""


class Tenant:
    """What is known of one tenant."""

    __slots__ = ("name", "open_tasks", "run_s", "shares", "used_s", "weight")

    def __init__(self, name: str, weight: float) -> None:
        self.name = name
        self.weight = weight
        self.open_tasks = 0
        self.used_s = 0.0
        """Agent-seconds, all in all."""
        self.run_s: dict[str, float] = {}
        """Expected agent-seconds of a task, by type."""
        self.shares: list[Share | None] = [None] * PRIORITIES

    @property
    def waiting(self) -> int:
        """Its tasks that wait for an agent."""
        return sum(share.waiting for share in self.shares if share is not None)


class Share:
    """What one tenant has used of one priority."""

    __slots__ = ("band", "listed", "name", "passed_s", "priority", "refund_s", "tenant", "waiting")

    def __init__(self, tenant: Tenant, priority: int, band: Band) -> None:
        self.tenant = tenant
        self.name = tenant.name
        self.priority = priority
        self.band = band
        self.passed_s = 0.0
        self.refund_s = 0.0
        """Charged too much so far: the next grants are charged less."""
        self.waiting = 0
        self.listed = False

    def arrive(self) -> None:
        """One more task waits."""
        if not self.waiting:
            floor_s = self.band.rise()
            if self.passed_s < floor_s:
                self.passed_s, self.refund_s = floor_s, 0.0
            if not self.listed:
                self.listed = True
                heappush(self.band.heap, (self.passed_s, self.name, self))
        self.waiting += 1

    def charge(self, task_type: str) -> float:
        """Charge a grant with the agent-seconds that are expected of it, and return them."""
        tenant = self.tenant
        expected_s = tenant.run_s.get(task_type, UNKNOWN_S)
        cost_s = expected_s / tenant.weight
        if self.refund_s:
            paid_s = min(self.refund_s, cost_s)
            self.refund_s -= paid_s
            cost_s -= paid_s
        passed_s, ahead_s = self.passed_s, self.band.rise() + WINDOW_S
        self.passed_s = max(passed_s, min(passed_s, ahead_s) + cost_s)
        return expected_s

    def settle(self, charged_s: float, used_s: float) -> None:
        """Put what was used in the place of what was charged."""
        tenant = self.tenant
        tenant.used_s += used_s
        refund_s = self.refund_s + (charged_s - used_s) / tenant.weight
        if refund_s < 0.0:
            self.passed_s -= refund_s
            refund_s = 0.0
        self.refund_s = min(refund_s, WINDOW_S)


class Band:
    """The shares of one priority."""

    __slots__ = ("floor_s", "heap")

    def __init__(self) -> None:
        self.floor_s = 0.0
        # (how far it had passed, name, share) of those that wait; corrected when they surface.
        self.heap: list[tuple[float, str, Share]] = []

    def rise(self) -> float:
        """Return how far those have passed that wait and have passed least."""
        heap = self.heap
        while heap:
            passed_s, name, share = heap[0]
            if not share.waiting:
                heappop(heap)
                share.listed = False
            elif passed_s < share.passed_s:
                heapreplace(heap, (share.passed_s, name, share))
            else:
                self.floor_s = max(self.floor_s, passed_s)
                break
        return self.floor_s


class Shares:
    """All tenants, the one heard of first in front."""

    __slots__ = ("_forgotten", "_tenants", "_weights", "bands")

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._tenants: dict[str, Tenant] = {}
        self._forgotten: list[str] = []
        self.bands = [Band() for _ in range(PRIORITIES)]

    def __iter__(self) -> Iterator[Tenant]:
        return iter(self._tenants.values())

    def find(self, name: str) -> Tenant | None:
        """Return a tenant that has been heard of."""
        return self._tenants.get(name)

    def tenant(self, name: str) -> Tenant:
        """Return a tenant, made when it is new; then one without tasks may be forgotten for it."""
        tenant = self._tenants.get(name)
        if tenant is None:
            if len(self._tenants) >= TENANTS_LEN_MAX:
                idle = next((t for t in self._tenants.values() if not t.open_tasks), None)
                if idle is not None:
                    del self._tenants[idle.name]
                    self._forgotten.append(idle.name)
            weight = self._weights.get(name, self._weights.get("*", 1.0))
            tenant = self._tenants[name] = Tenant(name, weight)
        return tenant

    def take_forgotten(self) -> list[str]:
        """Return the tenants that were forgotten since the last call."""
        forgotten, self._forgotten = self._forgotten, []
        return forgotten

    def share(self, tenant: Tenant, priority: int) -> Share:
        """Return a tenant's share of a priority."""
        share = tenant.shares[priority]
        if share is None:
            share = tenant.shares[priority] = Share(tenant, priority, self.bands[priority])
        return share

    def learn(self, tenant: Tenant, task_type: str, run_s: float) -> None:
        """Take into account how long a task ran."""
        known_s = tenant.run_s.get(task_type)
        if known_s is None:
            if len(tenant.run_s) >= TYPES_LEN_MAX:
                del tenant.run_s[next(iter(tenant.run_s))]
            tenant.run_s[task_type] = run_s
        else:
            tenant.run_s[task_type] = known_s + SMOOTHING * (run_s - known_s)

    def plain(self) -> dict[str, Any]:
        """Return what the log has made of it, as plain values; `restore` takes them."""
        return {
            "floors": [band.floor_s for band in self.bands],
            "tenants": [
                {
                    "name": tenant.name,
                    "used_s": tenant.used_s,
                    "run_s": dict(tenant.run_s),
                    "shares": {
                        share.priority: (share.passed_s, share.refund_s)
                        for share in tenant.shares
                        if share is not None
                    },
                }
                for tenant in self._tenants.values()
            ],
        }

    def restore(self, plain: Mapping[str, Any]) -> None:
        """Go on from what `plain` gave.

        To be called twice: before any task, so that tenants keep their order, and when all tasks
        wait again, since their arriving has moved their tenants.
        """
        for band, floor_s in zip(self.bands, plain["floors"], strict=True):
            band.floor_s = floor_s
        for row in plain["tenants"]:
            tenant = self.tenant(row["name"])
            tenant.used_s = row["used_s"]
            tenant.run_s.update(row["run_s"])
            for priority, (passed_s, refund_s) in row["shares"].items():
                share = self.share(tenant, priority)
                share.passed_s, share.refund_s = passed_s, refund_s
        for band in self.bands:
            band.heap.clear()
        for tenant in self:
            for one in tenant.shares:
                if one is not None:
                    one.listed = bool(one.waiting)
                    if one.listed:
                        heappush(one.band.heap, (one.passed_s, one.name, one))
