"""Rates: keys under which only so many tasks may start in a period.

The period slides: a task may start while fewer than the limit have started in the period before,
so no period, wherever it begins, sees more. Starts are remembered one by one; of a key with many,
those that fall in the same small part of a period become one entry with the time of the last, which
lets the next start come a little later and never too early.

A start is the event that grants a task. It is given back only when the router says that no agent
has the task: where that is not known one may have begun. The starts of a key outlive its tasks, for
a period.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush, nsmallest
from itertools import count
from typing import Any

from services.task_scheduler.core.bounds import release
from services.task_scheduler.core.lane import Key

EXACT_LEN = 64
"""Starts that are remembered each for itself."""
PARTS = 64
"""Of a period: starts beyond these that fall in the same part become one entry."""
LAPSES_LEN_MAX = 4_096
"""Keys that are looked through for when there is room: as many as a batch can name."""
LAPSES_S = 1.0

RateName = tuple[str, str, int]
"""Tenant, empty when all share it; key; period: another period counts for itself."""


class Starts:
    """Some starts: when the last of them was, on both clocks, how many, and when the first was."""

    __slots__ = ("count", "first_ms", "last_ms", "last_s")

    def __init__(self, last_s: float, last_ms: int, count: int, first_ms: int) -> None:
        self.last_s = last_s
        self.last_ms = last_ms
        self.count = count
        self.first_ms = first_ms


class RateKey(Key):
    """A key under which only so many tasks may start in a period."""

    __slots__ = ("_rates", "_starts", "count", "due_s", "period_ms", "period_s")

    def __init__(self, name: str, tenant: str, period_ms: int, rates: Rates) -> None:
        super().__init__(name, tenant)
        self.period_ms = period_ms
        self.period_s = period_ms / 1000
        self.count = 0
        """Starts that are remembered."""
        self.due_s = 0.0
        """When it is looked at again; 0 = it need not be."""
        self._rates = rates
        self._starts: deque[Starts] = deque()

    def full(self, limit: int) -> bool:
        """Whether no task may start now."""
        self._expire(self._rates.now_s)
        return self.count >= limit

    def free(self, limit: int) -> int:
        """Return how many more may start."""
        self._expire(self._rates.now_s)
        return limit - self.count

    def wait(self) -> None:
        """Note that a lane waits for it, or is gone."""
        self._rates.look_after(self)

    def start(self, mono_s: float, wall_ms: int) -> None:
        """Count a start."""
        self._expire(mono_s)
        self.count += 1
        self._note(mono_s, wall_ms)
        if self.blocked:
            # Those that were not offered the place wait for the next.
            self.wait()

    def _note(self, mono_s: float, wall_ms: int) -> None:
        starts = self._starts
        if len(starts) >= EXACT_LEN:
            last, part_ms = starts[-1], max(1, self.period_ms // PARTS)
            if last.first_ms // part_ms == wall_ms // part_ms:
                last.last_s, last.last_ms, last.count = mono_s, wall_ms, last.count + 1
                return
        starts.append(Starts(mono_s, wall_ms, 1, wall_ms))

    def give_back(self, wall_ms: int) -> None:
        """Count a start no more that was at this time, unless that is a period ago."""
        for entry in self._starts:
            if entry.first_ms <= wall_ms <= entry.last_ms:
                entry.count -= 1
                self.count -= 1
                if not entry.count:
                    self._starts.remove(entry)
                return

    def next_s(self) -> float | None:
        """Return when the oldest start counts no more; None when there is none."""
        return self._starts[0].last_s + self.period_s if self._starts else None

    def started(self) -> int:
        """Return how many have started in the period that ends now."""
        self._expire(self._rates.now_s)
        return self.count

    def next_ms(self) -> int:
        """Return the same in wall time; 0 when there is none."""
        return self._starts[0].last_ms + self.period_ms if self._starts else 0

    def last_s(self) -> float | None:
        """Return when no start of those that were counts any more; None when there is none."""
        return self._starts[-1].last_s + self.period_s if self._starts else None

    def starts(self) -> tuple[tuple[int, int, int], ...]:
        """Return its entries as plain values."""
        return tuple((each.last_ms, each.count, each.first_ms) for each in self._starts)

    def restore(self, starts: Iterable[tuple[int, int, int]], zero_s: float) -> None:
        """Take what `starts` gave; `zero_s` is the monotonic clock at wall time 0."""
        for last_ms, number, first_ms in starts:
            self._starts.append(Starts(zero_s + last_ms / 1000, last_ms, number, first_ms))
            self.count += number

    def _expire(self, now_s: float) -> None:
        # Reckoned as in `next_s`: a rounding must not make it due and not over.
        starts, period_s = self._starts, self.period_s
        while starts and starts[0].last_s + period_s <= now_s:
            self.count -= starts.popleft().count


class Rates:
    """The rate keys of open tasks, and of tasks that started a short while ago."""

    __slots__ = ("_due", "_lapses", "_lapses_s", "_owned", "_serial", "keys", "now_s")

    def __init__(self) -> None:
        self.keys: dict[RateName, RateKey] = {}
        self.now_s = float("-inf")
        """The time to which `advance` has come; starts that are over by then do not count."""
        self._due: list[tuple[float, int, RateKey]] = []
        self._serial = count()
        self._owned: Counter[str] = Counter()
        self._lapses: list[tuple[float, str]] = []
        self._lapses_s = float("-inf")

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[RateKey]:
        return iter(self.keys.values())

    def key(self, name: RateName) -> RateKey:
        """Return a key, made when it is new."""
        found = self.keys.get(name)
        if found is None:
            tenant, key, period_ms = name
            found = self.keys[name] = RateKey(key, tenant, period_ms, self)
            self._owned[tenant] += 1
        return found

    def owned(self, tenant: str) -> int:
        """Return how many keys a tenant has; of "", how many are shared."""
        return self._owned[tenant]

    def lapses(self) -> list[tuple[float, str]]:
        """Return when keys without open tasks go, and whose they are, the first ones in order.

        What it returns may be a second old: whoever is refused may ask often, and there are many.
        """
        if self.now_s - self._lapses_s > LAPSES_S:
            self._lapses_s = self.now_s
            idle = (
                (last_s, key.tenant)
                for key in self
                if not key.limits and (last_s := key.last_s()) is not None
            )
            self._lapses = nsmallest(LAPSES_LEN_MAX, idle)
        return self._lapses

    @property
    def next_s(self) -> float | None:
        """When `advance` may let a lane go on; None = not before a task starts."""
        return self._due[0][0] if self._due else None

    def advance(self, now_s: float) -> None:
        """Let lanes go on for which the time has come, and forget keys that nobody needs."""
        self.now_s = max(self.now_s, now_s)
        due = self._due
        while due and due[0][0] <= now_s:
            at_s, _, key = heappop(due)
            if at_s != key.due_s:
                continue
            key.due_s = 0.0
            if key.blocked:
                release(key)
            self.look_after(key)

    def look_after(self, key: RateKey) -> None:
        """See to a key when its next start is over, or all are and it has no task any more."""
        if not key.blocked and key.limits:
            return
        at_s = key.next_s() if key.blocked else key.last_s()
        if not key.limits and (at_s is None or at_s <= self.now_s):
            name = key.tenant, key.name, key.period_ms
            if self.keys.get(name) is key:  # it may have been forgotten and made anew
                del self.keys[name]
                self._owned[key.tenant] -= 1
                if not self._owned[key.tenant]:
                    del self._owned[key.tenant]
        elif at_s is not None and (not key.due_s or at_s < key.due_s):
            key.due_s = at_s
            heappush(self._due, (at_s, next(self._serial), key))

    def plain(self) -> list[dict[str, Any]]:
        """Return all starts as plain values."""
        return [
            {"name": name, "starts": starts}
            for name, key in self.keys.items()
            if (starts := key.starts())
        ]

    def restore(self, rows: Iterable[dict[str, Any]], zero_s: float) -> None:
        """Take what `plain` gave; `zero_s` is the monotonic clock at wall time 0."""
        for row in rows:
            key = self.key(row["name"])
            key.restore(row["starts"], zero_s)
            self.look_after(key)
