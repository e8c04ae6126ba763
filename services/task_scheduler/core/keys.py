"""The keys that hold lanes up: which ones a lane has, by its tasks and by the settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from services.kernel.errors import InvalidArgument, ResourceExhausted
from services.task_scheduler.core.event import Created, RateLimit
from services.task_scheduler.core.lane import (
    SCHEDULE_KEY,
    ConcurrencyKey,
    Key,
    Lane,
    LaneKey,
)
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.rates import RateName, Rates

RETRY_AFTER_S = 1.0


class Keys:
    """Concurrency keys and rate keys of open tasks."""

    __slots__ = ("_limits", "concurrency", "rates")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.concurrency: dict[tuple[str, str], ConcurrencyKey] = {}
        """By tenant, empty when all share it, and name."""
        self.rates = Rates()

    def of(self, lane: LaneKey) -> tuple[tuple[Key, int], ...]:
        """Return the keys of a new lane, each with its limit."""
        found: list[tuple[Key, int]] = []
        for name in lane.concurrency_keys:
            found.append((self._key(name, lane.tenant), self._limit(name, lane.concurrency_limit)))
        for rate, limit in self.named(lane.tenant, lane.rate_limits).items():
            found.append((self.rates.key(rate), limit))
        for key, limit in found:
            key.enter(limit)
        return tuple(found)

    def forget(self, lane: Lane) -> None:
        """Let a lane go."""
        for key, limit in lane.bounds:
            if key.leave(limit) and isinstance(key, ConcurrencyKey):
                del self.concurrency[key.tenant, key.name]
            key.wait()

    def check(self, tasks: Sequence[Created]) -> None:
        """Raise when new tasks would bring too many rate keys.

        A tenant may have half of what the others leave, so that no tenant shuts out the next. The
        shared keys count as those of one tenant.

        Raises:
            InvalidArgument: BATCH_TOO_LARGE.
            ResourceExhausted: RATE_KEYS_FULL.
        """
        asked: set[RateName] = set()
        for task in tasks:
            if task.terms.rate_limits:
                asked |= self.named(task.tenant, task.terms.rate_limits).keys()
        new = Counter(tenant for tenant, *_ in asked - self.rates.keys.keys())
        for tenant, count in new.items():
            most = self._most(0)
            together = sum(1 for name in asked if name[0] == tenant)
            if together > most:
                # No waiting helps, so nothing here says that it does.
                raise InvalidArgument(
                    "BATCH_TOO_LARGE",
                    f"{together} different rate keys of {_whose(tenant)} in one request, of which "
                    f"there may be {most} at once: split it.",
                    metadata={"tenant": tenant, "rate_keys_max": str(most)},
                )
            own = self.rates.owned(tenant)
            others = len(self.rates) - own + new.total() - count
            if own + count > self._most(others):
                raise ResourceExhausted(
                    "RATE_KEYS_FULL",
                    f"There are {own} rate keys of {_whose(tenant)} of at most "
                    f"{self._most(others)}, of open tasks and of those that started within "
                    "their period: submit again later.",
                    metadata={
                        "tenant": tenant,
                        "rate_keys": str(own),
                        "rate_keys_max": str(self._most(others)),
                    },
                    retry_after_s=self._room_after_s(tenant, own + count, others),
                )

    def _most(self, others: int) -> int:
        """Return how many keys one tenant may have beside those of others: half, rounded up."""
        return max(0, self._limits.rate_keys_len_max - others + 1) // 2

    def _room_after_s(self, tenant: str, own: int, others: int) -> float:
        """Return how long it takes until a tenant may have so many keys, unless tasks end."""
        rates = self.rates
        for lapse_s, owner in rates.lapses():
            if lapse_s <= rates.now_s:
                continue  # it is gone
            if owner == tenant:
                own -= 1
            else:
                others -= 1
            if own <= self._most(others):
                return max(RETRY_AFTER_S, lapse_s - rates.now_s)
        # The others have open tasks, which may end at any time.
        return RETRY_AFTER_S

    def named(self, tenant: str, limits: tuple[RateLimit, ...]) -> dict[RateName, int]:
        """Return what a tenant's tasks with these limits have to keep to.

        A limit of the settings goes before that of a task.
        """
        settings, found = self._limits, {}
        for name, limit, period_ms in limits:
            shared, own = settings.shared_rate(name), settings.rate(name)
            if shared is not None:
                limit, period_ms = shared
            elif own is not None:
                limit, period_ms = own
            found["" if shared is not None else tenant, name, period_ms] = limit
        return found

    def _key(self, name: str, tenant: str) -> ConcurrencyKey:
        owner = "" if self._limits.shared_limit(name) else tenant
        key = self.concurrency.get((owner, name))
        if key is None:
            key = self.concurrency[owner, name] = ConcurrencyKey(name, owner)
        return key

    def _limit(self, name: str, asked: int) -> int:
        if name.startswith(SCHEDULE_KEY):
            # One after the other, whatever the task and the settings allow of its other keys.
            return 1
        limits = self._limits
        return limits.shared_limit(name) or limits.concurrency_limit(name) or asked or 1


def _whose(tenant: str) -> str:
    return f"tenant {tenant}" if tenant else "all tenants together"
