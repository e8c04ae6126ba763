"""Fairness between tenants, in agent-seconds used and not in tasks granted.

Each priority keeps, for each tenant, how far it has passed: agent-seconds over the tenant's weight.
A grant is charged with what such tasks of the tenant took so far, and what they really took settles
the difference, so that long tasks do not slip through while they run. A tenant that comes back
after a pause begins where the one was that was served last: it cannot save up. One that waits and
is not served, for whatever reason, holds back nobody: it is raised instead, so that it lags by
`WINDOW_S` at most. Nobody is ever put back.

This is what the log knows. Whose turn it is among those that a pool can serve follows from it and
from what the pool has served (see `pool`): tenants that share no agents are not measured by each
other.

How far a tenant has passed only grows; that is what makes heaps with late corrections right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from services.task_scheduler.core.lane import Lane

PRIORITIES = 10
WINDOW_S = 600.0
"""How far, in agent-seconds over weight, a tenant can fall behind those that are served."""
UNKNOWN_S = 1.0
"""What a task is charged with before one of its tenant and type has ended."""
SMOOTHING = 0.2
"""Share of the latest run in the expected one."""
LONGEST_LEN = 8
"""Tasks, as long as the longest of a tenant, for which it may be ahead or be paid back."""
TENANTS_LEN_MAX = 10_000
TYPES_LEN_MAX = 256
"""Types of a tenant whose length is remembered."""


class Tenant:
    """What is known of one tenant."""

    __slots__ = (
        "idle_listed",
        "lanes",
        "name",
        "number",
        "open_tasks",
        "run_s",
        "shares",
        "used_s",
        "weight",
    )

    def __init__(self, name: str, weight: float, number: int) -> None:
        self.name = name
        self.weight = weight
        self.number = number
        """Counts those heard of before."""
        self.lanes: dict[int, Lane] = {}
        """Its lanes, by their number."""
        self.idle_listed = False
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

    __slots__ = (
        "band",
        "lifted_s",
        "name",
        "passed_s",
        "priority",
        "refund_s",
        "tenant",
        "waiting",
    )

    def __init__(self, tenant: Tenant, priority: int, band: Band) -> None:
        self.tenant = tenant
        self.name = tenant.name
        self.priority = priority
        self.band = band
        self.passed_s = 0.0
        self.lifted_s = 0.0
        """The part of it that it has not used and was raised by; no fact of the log."""
        self.refund_s = 0.0
        """Charged too much so far: the next grants are charged less."""
        self.waiting = 0

    @property
    def level_s(self) -> float:
        """How far it has passed, measured by all tenants: one that lags too far is raised."""
        least_s = self.band.top_s - WINDOW_S
        return self.passed_s if self.passed_s > least_s else least_s

    @property
    def patience_s(self) -> float:
        """How far ahead it may be kept waiting: a few of its longest tasks must count in full."""
        tenant = self.tenant
        longest_s = max(tenant.run_s.values(), default=UNKNOWN_S)
        return max(WINDOW_S, LONGEST_LEN * longest_s / tenant.weight)

    def arrive(self) -> None:
        """One more task waits."""
        if not self.waiting and self.passed_s < self.band.clock_s:
            self._lift(self.band.clock_s)
            self.refund_s = 0.0
        self.waiting += 1

    def charge(self, task_type: str) -> float:
        """Charge a grant with the agent-seconds that are expected of it, and return them."""
        tenant, band = self.tenant, self.band
        expected_s = tenant.run_s.get(task_type, UNKNOWN_S)
        cost_s = expected_s / tenant.weight
        if self.refund_s:
            paid_s = self.refund_s if self.refund_s < cost_s else cost_s
            self.refund_s -= paid_s
            cost_s -= paid_s
        if self.passed_s < band.top_s - WINDOW_S:
            self._lift(band.top_s - WINDOW_S)
        band.clock_s = self.passed_s
        self.passed_s += cost_s
        if self.passed_s > band.top_s:
            band.top_s = self.passed_s
        return expected_s

    def settle(self, charged_s: float, used_s: float) -> None:
        """Put what was used in the place of what was charged."""
        tenant = self.tenant
        tenant.used_s += used_s
        refund_s = self.refund_s + (charged_s - used_s) / tenant.weight
        if refund_s < 0.0:
            self.passed_s -= refund_s
            if self.passed_s > self.band.top_s:
                self.band.top_s = self.passed_s
            refund_s = 0.0
        elif refund_s > WINDOW_S:
            # More would be a burst, but what a few long tasks were charged too much is theirs.
            most_s = max(WINDOW_S, LONGEST_LEN * charged_s / tenant.weight, self.refund_s)
            refund_s = min(refund_s, most_s)
        self.refund_s = refund_s

    def _lift(self, least_s: float) -> None:
        self.lifted_s += least_s - self.passed_s
        self.passed_s = least_s


class Band:
    """The shares of one priority."""

    __slots__ = ("clock_s", "top_s")

    def __init__(self) -> None:
        self.clock_s = 0.0
        """How far the tenant had passed that was served last."""
        self.top_s = 0.0
        """How far the one has passed that has passed most."""


class Shares:
    """All tenants, the one heard of first in front."""

    __slots__ = ("_forgotten", "_idle", "_serial", "_tenants", "_weights", "bands")

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._tenants: dict[str, Tenant] = {}
        self._serial = 0
        # Each tenant at most once; one that is busy by now is dropped when it surfaces.
        self._idle: list[tuple[int, Tenant]] = []
        self._forgotten: list[Tenant] = []
        self.bands = [Band() for _ in range(PRIORITIES)]

    def __iter__(self) -> Iterator[Tenant]:
        return iter(self._tenants.values())

    def find(self, name: str) -> Tenant | None:
        """Return a tenant that has been heard of."""
        return self._tenants.get(name)

    def tenant(self, name: str) -> Tenant:
        """Return a tenant; one that is new may be in the place of some without tasks."""
        tenant = self._tenants.get(name)
        if tenant is None:
            while len(self._tenants) >= TENANTS_LEN_MAX and self._forget_one():
                pass
            weight = self._weights.get(name, self._weights.get("*", 1.0))
            self._serial += 1
            tenant = self._tenants[name] = Tenant(name, weight, self._serial)
            self.idle(tenant)
        return tenant

    def idle(self, tenant: Tenant) -> None:
        """Note that a tenant has no open task."""
        if not tenant.idle_listed:
            tenant.idle_listed = True
            heappush(self._idle, (tenant.number, tenant))

    def _forget_one(self) -> bool:
        """Forget the tenant without tasks that was heard of first; return whether there is one."""
        while self._idle:
            _, tenant = heappop(self._idle)
            tenant.idle_listed = False
            if not tenant.open_tasks:
                del self._tenants[tenant.name]
                self._forgotten.append(tenant)
                return True
        return False

    def take_forgotten(self) -> list[Tenant]:
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
            "floors": [band.clock_s for band in self.bands],
            "tops": [band.top_s for band in self.bands],
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
        # Snapshots of earlier versions tell how far the least has passed, and not the most.
        tops = plain.get("tops", plain["floors"])
        for band, clock_s, top_s in zip(self.bands, plain["floors"], tops, strict=True):
            band.clock_s, band.top_s = clock_s, top_s
        for row in plain["tenants"]:
            tenant = self.tenant(row["name"])
            tenant.used_s = row["used_s"]
            tenant.run_s.update(row["run_s"])
            for priority, (passed_s, refund_s) in row["shares"].items():
                share = self.share(tenant, priority)
                share.passed_s, share.refund_s = passed_s, refund_s
                share.band.top_s = max(share.band.top_s, passed_s)
