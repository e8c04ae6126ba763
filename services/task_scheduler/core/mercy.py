"""Another time for the leases of a router most of which run out together.

So many agents do not die at once: the fault is more likely on our side of the wire.
"""

from __future__ import annotations

from collections import Counter, OrderedDict

from services.kernel.instant import Instant
from services.task_scheduler.core.task import Task

leases_len_min = 16
"""Leases of a router below which running out together means nothing."""
late_share = 0.5
"""Of its time, after which a lease that is not renewed runs out together with one that is over:
whoever lives renews in a third."""
mass_share = 0.5


class Mercy:
    """Remembers which routers had it of late: none has it twice in two lease times."""

    def __init__(self) -> None:
        self._shown: dict[str, float] = {}
        self.count = 0
        """Times that most leases of a router ran out together."""

    def spare(self, leases: OrderedDict[int, Task], ttl_s: float, now: Instant) -> set[str]:
        """Give those leases another time.

        Args:
            leases: All, by epoch, those first that were not renewed the longest.
            ttl_s: How long a lease lives that is not renewed.
            now: The time.

        Returns:
            The routers whose leases are spared.
        """
        late: list[Task] = []
        for task in leases.values():
            if now.mono_s - task.renewed_s <= ttl_s * late_share:
                break
            late.append(task)
        if len(late) < leases_len_min:
            return set()
        recent = {r: at_s for r, at_s in self._shown.items() if now.mono_s - at_s <= 2 * ttl_s}
        held = Counter(task.router_id for task in leases.values())
        spared = {
            router_id
            for router_id, count in Counter(task.router_id for task in late).items()
            if count >= leases_len_min
            and count > mass_share * held[router_id]
            and router_id not in recent
        }
        self._shown = {**recent, **dict.fromkeys(spared, now.mono_s)}
        self.count += len(spared)
        for task in late:
            if task.router_id in spared:
                task.renewed_s = now.mono_s
                leases.move_to_end(task.lease_epoch)
        return spared
