"""Who owns a partition in PostgreSQL: a lease that is renewed, and an epoch that fences.

The lease decides when another may take over; the epoch decides who can write. So a process that was
held up for longer than its lease does no harm: its next commit finds another epoch and is refused.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import asyncpg

from services.kernel.clock import Clock

log = logging.getLogger("podium.task_scheduler.lease")

LOOK_S = 0.5
"""How often one that waits looks whether the owner still lives; a release wakes it at once."""
CUT_OFF = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # an idle connection that the server ended, met by a statement
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,  # connections, memory, its disk
    asyncpg.PostgresSystemError,  # its disk: it ends itself and restarts from what is there
)
"""What a lost connection raises, whichever side noticed, and a database that cannot for now."""


class Lease:
    """The lease on one partition.

    Args:
        pool: Connections to the database.
        sql: Its statements.
        partition: The partition.
        owner: This process, unique: the machine's name, a slash, and what tells its processes
            apart. One that starts where a former one listened need not wait for its lease to end.
        ttl_s: Seconds without renewal after which another may take over.
        clock: Its time.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        sql: Mapping[str, str],
        partition: int,
        owner: str,
        ttl_s: float,
        clock: Clock,
    ) -> None:
        self.epoch = 0
        self.owner_address = ""
        self._pool = pool
        self._sql = sql
        self._partition = partition
        self._owner = owner
        self._ttl_s = ttl_s
        self._clock = clock
        self._until_s = 0.0
        self._lost = asyncio.Event()
        self._released = asyncio.Event()
        self._renewing: asyncio.Task[None] | None = None

    @property
    def reachable(self) -> bool:
        """Whether the lease has time left by this process's clock."""
        return self._clock.now().mono_s < self._until_s

    async def own(self, address: str) -> None:
        """Return when this process owns the partition; others are told `address`."""
        if self._renewing is not None:
            return
        listening = asyncio.create_task(self._listen())
        try:
            while True:
                try:
                    if await self.take(address):
                        break
                    left_s = await self._look()
                except CUT_OFF as error:
                    log.warning("the database cannot be reached: %s", _said(error))
                    left_s = LOOK_S
                await self._wait(min(LOOK_S, left_s + 0.01))
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def lost(self) -> None:
        """Return when another process has taken over."""
        await self._lost.wait()

    async def release(self) -> None:
        """Give the lease back; whoever waits for it is woken."""
        if self._renewing is None:
            return
        self._renewing.cancel()
        await asyncio.gather(self._renewing, return_exceptions=True)
        self._renewing = None
        self._until_s = 0.0
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(self._sql["release_lease"], self._partition, self._owner)
                await connection.execute(self._sql["tell_released"], str(self._partition))
        except CUT_OFF as error:
            log.warning("the lease could not be given back, it runs out: %s", _said(error))

    async def fence(self) -> bool:
        """Shut out what this process sent on a connection that was lost; False = not owner."""
        epoch: int | None = await self._pool.fetchval(
            self._sql["raise_own_epoch"], self._partition, self.epoch
        )
        if epoch is None:
            self._lost.set()
            return False
        self.epoch = epoch
        return True

    async def take(self, address: str) -> bool:
        """Own the partition if nobody does; tell whether it worked."""
        began_s = self._clock.now().mono_s
        async with self._pool.acquire() as connection, connection.transaction():
            taken = await connection.fetchval(
                self._sql["take_lease"], self._partition, self._owner, address, self._ttl_s
            )
            if taken is None:
                return False
            self.epoch = await connection.fetchval(self._sql["raise_epoch"], self._partition)
        self._until_s = began_s + self._ttl_s
        self.owner_address = ""
        self._renewing = asyncio.create_task(self._renew())
        log.info("owns partition %d in epoch %d", self._partition, self.epoch)
        return True

    async def _look(self) -> float:
        """Note who owns the partition; return how long at least."""
        row: Any = await self._pool.fetchrow(self._sql["owner"], self._partition)
        self.owner_address = row["address"] if row is not None else ""
        return row["left_s"] if row is not None else 0.0

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._released.wait()
        except TimeoutError:
            pass
        self._released.clear()

    async def _listen(self) -> None:
        while True:
            try:
                async with self._pool.acquire() as connection:
                    await connection.add_listener("podium_released", self._told)
                    try:
                        while not connection.is_closed():
                            await self._clock.sleep(LOOK_S)
                    finally:
                        await connection.remove_listener("podium_released", self._told)
            except CUT_OFF:
                await self._clock.sleep(LOOK_S)

    def _told(self, connection: Any, pid: int, channel: str, payload: str) -> None:
        if payload == str(self._partition):
            self._released.set()

    async def _renew(self) -> None:
        while True:
            await self._clock.sleep(self._ttl_s / 3)
            began_s = self._clock.now().mono_s
            try:
                async with asyncio.timeout(self._ttl_s):
                    renewed = await self._pool.fetchval(
                        self._sql["renew_lease"], self._partition, self._owner, self._ttl_s
                    )
            except CUT_OFF as error:
                log.warning("the lease could not be renewed: %s", _said(error))
                continue
            if renewed is None:
                log.warning("another scheduler has taken partition %d over", self._partition)
                self._until_s = 0.0
                self._lost.set()
                return
            self._until_s = began_s + self._ttl_s


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
