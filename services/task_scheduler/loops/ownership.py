"""Takes this replica's share of the partitions, gives up what is too much, knows who has the rest.

A unit that loses its log is torn down, and nothing else with it: its partition is served by whoever
owns it now, this replica included when it takes it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from services.kernel.clock import Clock
from services.kernel.errors import PodiumError
from services.task_scheduler.core.ownership import Owner, Sight, plan
from services.task_scheduler.core.scheduler import Scheduler
from services.task_scheduler.loops.unit import Unit
from services.task_scheduler.ports import LogLost, Replicas, StorageFailed

log = logging.getLogger("podium.task_scheduler.ownership")

LOOK_S = 0.5
"""How often one looks at the others; what they tell wakes it at once."""
SHUN_S = 30.0
"""How long a partition that cannot be served is left to others."""
KNOWN_S = 1.0
"""How long a call waits for the next owner of a partition: a hand-over takes less."""
DRAIN_S = 5.0

Take = Callable[[int], Awaitable[Unit | None]]
"""Owns a partition and returns its unit, which is yet to run; None when somebody else has it."""


class Ownership:
    """The partitions as this replica knows them.

    Args:
        count: How many there are.
        replicas: The others.
        take: Takes one.
        address: Returns where this replica answers others.
        clock: Its time.
    """

    def __init__(
        self,
        count: int,
        replicas: Replicas,
        take: Take,
        address: Callable[[], str],
        clock: Clock,
    ) -> None:
        self.count = count
        self.own_address = address
        self._replicas = replicas
        self._take = take
        self._clock = clock
        self._units: dict[int, Unit] = {}
        self._running: dict[int, asyncio.Task[None]] = {}
        self._releasing: dict[int, asyncio.Task[None]] = {}
        self._owners: Mapping[int, Owner] = {}
        self._shunned: dict[int, float] = {}
        self._waiters: list[asyncio.Future[None]] = []
        self._failure: Exception | None = None
        self._was_ready = False
        self._leaving = False

    def servicer(self, partition: int) -> Any:
        """Return what answers for a partition here; None when it is elsewhere or nowhere."""
        unit = self._units.get(partition)
        return unit.servicer if unit is not None else None

    def address(self, partition: int) -> str:
        """Return where another replica answers for a partition; empty when none is known."""
        owner = self._owners.get(partition)
        return owner.address if owner is not None and owner.name != self._replicas.me else ""

    def cores(self) -> list[Scheduler]:
        """Return the cores of the partitions that are owned here."""
        return [unit.committer.core for unit in self._units.values()]

    @property
    def damage(self) -> str:
        """What is wrong with a log that is owned here; empty = nothing."""
        return next((u.committer.damage for u in self._units.values() if u.committer.damage), "")

    @property
    def waits_for(self) -> str:
        """Empty when calls can be answered, else why not.

        At first all partitions must be served. Later one that has just lost its owner is no reason
        to send the callers of all others away.
        """
        faults = [fault for fault in map(self._fault, range(self.count)) if fault]
        if not faults or (self._was_ready and len(faults) < self.count):
            self._was_ready = True
            return ""
        return faults[0]

    async def known(self, partition: int, but: str = "") -> None:
        """Return when somebody answers for a partition who is not at `but`, or after a moment."""
        try:
            async with asyncio.timeout(KNOWN_S):
                while partition not in self._units and self.address(partition) in ("", but):
                    waiter = asyncio.get_running_loop().create_future()
                    self._waiters.append(waiter)
                    await waiter
        except TimeoutError:
            pass

    async def run(self) -> None:
        """Follow the others until cancelled; raise when the only partition cannot be served."""
        try:
            while not self._leaving:
                sight = await self._replicas.sight()
                if sight is not None:
                    self._owners = sight.owners
                    self._wake()
                    await self._follow(sight)
                await self._replicas.news(LOOK_S)
                if self._failure is not None:
                    raise self._failure
        finally:
            await self._end()

    async def drain(self) -> None:
        """Give everything up, so that others go on at once."""
        self._leaving = True
        await self._replicas.leave()
        for partition in list(self._units):
            self._release(partition)
        await asyncio.gather(*self._releasing.values(), return_exceptions=True)

    async def _follow(self, sight: Sight) -> None:
        wanted = plan(self.count, sight, self._replicas.me)
        if wanted.take:
            await self._take_some(sight, wanted.take)
        mine = [
            partition
            for partition, owner in sight.owners.items()
            if owner.name == self._replicas.me and partition in self._units
        ]
        # The newest first: who has been here for long has most to lose.
        for partition in mine[::-1][: max(0, wanted.release - len(self._releasing))]:
            self._release(partition)

    async def _take_some(self, sight: Sight, count: int) -> None:
        now_s = self._clock.now().mono_s
        for partition in range(self.count):
            free = partition not in sight.owners and partition not in self._running
            if not count or self._leaving:
                return
            if free and self._shunned.get(partition, now_s) <= now_s:
                unit = await self._take(partition)
                if unit is not None:
                    count -= 1
                    self._units[partition] = unit
                    self._running[partition] = asyncio.create_task(self._serve(partition, unit))
                    self._wake()
                    await self._replicas.tell(partition)

    async def _serve(self, partition: int, unit: Unit) -> None:
        try:
            await unit.run()
        except LogLost as lost:
            log.warning("partition %d is let go: %s", partition, lost)
        except StorageFailed as failed:
            # It is read again: here, by another replica, or by this process's next life.
            log.critical("partition %d failed: %s", partition, failed)
            if self.count == 1:
                self._failure = failed
        except Exception as failed:
            why = failed.message if isinstance(failed, PodiumError) else str(failed)
            log.critical("partition %d cannot be served: %s", partition, why, exc_info=failed)
            self._shunned[partition] = self._clock.now().mono_s + SHUN_S
            if self.count == 1:
                self._failure = failed
        finally:
            # First of all, so that calls go elsewhere at once.
            if self._units.get(partition) is unit:
                del self._units[partition]
            await unit.close()
            del self._running[partition]

    def _release(self, partition: int) -> None:
        if partition not in self._releasing:
            # From here on calls wait for the next owner.
            unit = self._units.pop(partition)
            task = asyncio.create_task(self._hand_over(partition, unit))
            self._releasing[partition] = task
            task.add_done_callback(lambda _: self._releasing.pop(partition, None))

    async def _hand_over(self, partition: int, unit: Unit) -> None:
        log.info("partition %d goes to another replica", partition)
        running = self._running.get(partition)
        try:
            async with asyncio.timeout(DRAIN_S):
                await unit.drain()
        except (TimeoutError, PodiumError) as error:
            log.warning("partition %d was not drained: %s", partition, error)
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _end(self) -> None:
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _fault(self, partition: int) -> str:
        unit = self._units.get(partition)
        if unit is not None:
            return unit.committer.waits_for
        return "" if self.address(partition) else f"partition {partition} has no owner"

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
