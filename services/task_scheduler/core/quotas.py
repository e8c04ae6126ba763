"""What one tenant may have open, and how fast it may submit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from services.kernel.errors import (
    FailedPrecondition,
    InvalidArgument,
    PodiumError,
    ResourceExhausted,
)
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.shares import TENANTS_LEN_MAX, Shares

RETRY_AFTER_S = 1.0
BURST_S = 2.0
"""A tenant that was quiet may submit this many seconds' worth at once."""


class Quotas:
    """Checks submits against the quotas of their tenants; how fast they came is not in the log."""

    __slots__ = ("_filled", "_limits", "_shares")

    def __init__(self, limits: Limits, shares: Shares) -> None:
        self._limits = limits
        self._shares = shares
        # By tenant: tokens left, and when that was.
        self._filled: dict[str, tuple[float, float]] = {}

    def check(self, tenants: Iterable[str], now_s: float) -> None:
        """Take the tasks of these tenants into account, or raise and take none.

        Raises:
            FailedPrecondition: TENANT_CLOSED.
            InvalidArgument: BATCH_TOO_LARGE.
            ResourceExhausted: TENANT_BACKLOG_FULL or TENANT_RATE.
        """
        limits = self._limits
        if not limits.tenant_open_tasks_max and not limits.tenant_submits_per_s:
            return
        counts = Counter(tenants)
        for tenant, count in counts.items():
            self.check_open(tenant, count)
        filled = {tenant: self._take(tenant, count, now_s) for tenant, count in counts.items()}
        for tenant, left in filled.items():
            if left is not None:
                self._keep(tenant, left, now_s)

    def check_open(self, tenant: str, count: int) -> None:
        """Raise when a tenant would have too many open tasks.

        Raises:
            FailedPrecondition: TENANT_CLOSED.
            InvalidArgument: BATCH_TOO_LARGE.
            ResourceExhausted: TENANT_BACKLOG_FULL.
        """
        most = self._limits.of_tenant(self._limits.tenant_open_tasks_max, tenant)
        if most is None:
            return
        if count > most:
            # No waiting helps, so nothing here says that it does.
            raise _never(tenant, count, most)
        known = self._shares.find(tenant)
        open_tasks = known.open_tasks if known is not None else 0
        if open_tasks + count > most:
            raise ResourceExhausted(
                "TENANT_BACKLOG_FULL",
                f"Tenant {tenant} has {open_tasks} open tasks of at most {most:g}: submit again "
                "when some have ended.",
                metadata={
                    "tenant": tenant,
                    "open_tasks": str(open_tasks),
                    "open_tasks_max": f"{most:g}",
                },
                retry_after_s=RETRY_AFTER_S,
            )

    def _take(self, tenant: str, count: int, now_s: float) -> float | None:
        """Return the tokens that are left; None when the tenant's rate is not limited."""
        rate = self._limits.of_tenant(self._limits.tenant_submits_per_s, tenant)
        if rate is None:
            return None
        burst = max(1.0, rate * BURST_S)
        left, since_s = self._filled.get(tenant, (burst, now_s))
        left = min(burst, left + max(0.0, now_s - since_s) * rate)
        # More than the burst passes when the bucket is full, and leaves a debt.
        missing = min(count, burst) - left
        if missing > 1e-9:
            raise ResourceExhausted(
                "TENANT_RATE",
                f"Tenant {tenant} may submit {rate:g} tasks a second: submit again later.",
                metadata={"tenant": tenant, "submits_per_s": f"{rate:g}"},
                retry_after_s=missing / rate,
            )
        return left - count

    def _keep(self, tenant: str, left: float, now_s: float) -> None:
        self._filled.pop(tenant, None)
        if len(self._filled) >= TENANTS_LEN_MAX:
            del self._filled[next(iter(self._filled))]
        self._filled[tenant] = (left, now_s)


def _never(tenant: str, count: int, most: float) -> PodiumError:
    """Return why tasks are refused that the quota has no room for even when nothing is open."""
    metadata = {"tenant": tenant, "open_tasks_max": f"{most:g}"}
    if most < 1:
        return FailedPrecondition(
            "TENANT_CLOSED",
            f"Tenant {tenant} may have no open tasks: the settings of the scheduler say so.",
            metadata=metadata,
        )
    return InvalidArgument(
        "BATCH_TOO_LARGE",
        f"{count} tasks of tenant {tenant} in one request, which may have {most:g} open at once: "
        "split it.",
        metadata={**metadata, "batch_len_max": f"{int(most)}"},
    )
