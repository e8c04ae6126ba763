"""The replicas that share a database: who lives, who owns what, and news of it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from services.kernel.clock import Clock
from services.task_scheduler.adapters.database import SQL, Database
from services.task_scheduler.adapters.lease import CUT_OFF
from services.task_scheduler.core.ownership import Owner, Sight

log = logging.getLogger("podium.task_scheduler.replicas")

LISTEN_S = 0.5
"""How often the connection that brings news is looked after."""
CHANNELS = ("podium_released", "podium_owned")


class PostgresReplicas:
    """What a replica says of itself and sees of the others.

    Args:
        database: The database.
        address: Where other replicas reach this one, once it listens.
        ttl_s: How long it counts as alive without saying so again.
        clock: Its time.
    """

    def __init__(
        self, database: Database, address: asyncio.Future[str], ttl_s: float, clock: Clock
    ) -> None:
        self._database = database
        self._address = address
        self._ttl_s = ttl_s
        self._clock = clock
        self._said_s = float("-inf")
        self._news = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None

    @property
    def me(self) -> str:
        """The name of this replica."""
        return self._database.owner

    async def sight(self) -> Sight | None:
        """Say that this replica lives and return what it sees; None: nothing can be reached.

        What was owned by a process that listened in this very place counts as free.
        """
        address = await self._address
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen())
        pool, now_s = self._database.connected, self._clock.now().mono_s
        try:
            if now_s - self._said_s >= self._ttl_s / 3:
                await pool.execute(SQL["add_replica"], self.me, address, self._ttl_s)
                self._said_s = now_s
            owners = await pool.fetch(SQL["owners"])
            replicas = await pool.fetch(SQL["replicas"])
        except CUT_OFF as error:
            log.warning("the database cannot be reached: %s", error)
            return None
        machine = self.me.partition("/")[0]

        def former(name: str, at: str) -> bool:
            return at == address and name != self.me and name.partition("/")[0] == machine

        return Sight(
            {
                row["partition"]: Owner(row["owner"], row["address"])
                for row in owners
                if not former(row["owner"], row["address"])
            },
            {row["replica"] for row in replicas if not former(row["replica"], row["address"])},
        )

    async def tell(self, partition: int) -> None:
        """Tell the others that a partition has an owner again."""
        try:
            await self._database.connected.execute(SQL["tell_owned"], str(partition))
        except CUT_OFF:
            pass  # they look for themselves now and then

    async def news(self, within_s: float) -> None:
        """Return when something has changed, or after some time."""
        try:
            async with asyncio.timeout(within_s):
                await self._news.wait()
        except TimeoutError:
            pass
        self._news.clear()

    async def leave(self) -> None:
        """Say that this replica takes no partition any more."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        try:
            await self._database.connected.execute(SQL["drop_replica"], self.me)
        except CUT_OFF as error:
            log.warning("the others could not be told of the end, they will notice: %s", error)

    async def _listen(self) -> None:
        while True:
            try:
                async with self._database.connected.acquire() as connection:
                    for channel in CHANNELS:
                        await connection.add_listener(channel, self._told)
                    try:
                        while not connection.is_closed():
                            await self._clock.sleep(LISTEN_S)
                    finally:
                        for channel in CHANNELS:
                            await connection.remove_listener(channel, self._told)
            except CUT_OFF:
                await self._clock.sleep(LISTEN_S)

    def _told(self, connection: Any, pid: int, channel: str, payload: str) -> None:
        self._news.set()
