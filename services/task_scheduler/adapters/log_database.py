"""The event logs of a PostgreSQL database, looked at and mended without a scheduler."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

from services.kernel.errors import FailedPrecondition
from services.task_scheduler.adapters.chain import NO_HASH, Chain, too_new
from services.task_scheduler.adapters.database import CONNECT_S, SCHEMA_VERSION, SQL
from services.task_scheduler.adapters.lease import CUT_OFF
from services.task_scheduler.adapters.mending import Plan, Stretch, Walk, furthest, plan
from services.task_scheduler.adapters.snapshots import Facts
from services.task_scheduler.adapters.statements import migrations

READ_LEN = 256
PARTS_LEN = 64
PIPE_LEN = 16
"""Chunks of a copy that one database may be ahead of the other."""
COPIED = {
    "podium_about": "SELECT * FROM podium_about",
    "podium_partitions": "SELECT * FROM podium_partitions",
    "podium_groups": "SELECT * FROM podium_groups",
    "podium_snapshots": "SELECT * FROM podium_snapshots",
    "podium_snapshot_parts": "SELECT part.* FROM podium_snapshot_parts AS part "
    "JOIN podium_snapshots AS whole USING (partition, seq, epoch)",
}
"""What a backup holds: not who owns what at the moment, nor what is only half written."""


class FoundIn(NamedTuple):
    """What the log of a partition holds."""

    partition: int
    base: Facts
    """The event before the first."""
    end: Facts
    """The last event that can be trusted."""
    damage: str
    """Why nothing behind it can; empty = the log is whole."""
    snapshots: list[Facts]
    """The whole ones, newest first."""


class LogDatabase:
    """The logs of all partitions of a database.

    Args:
        url: The database.
        password_file: Where its password is, if not in the URL.
    """

    def __init__(self, url: str, password_file: str = "") -> None:
        self._url = url
        self._password_file = password_file

    async def check(self) -> list[FoundIn]:
        """Follow the chain of each partition as far as it holds, as they are at this moment."""
        async with self._reading() as connection:
            return [await _check(connection, n) for n in await _partitions(connection)]

    async def events(self, partition: int | None) -> AsyncIterator[bytes]:
        """Yield the frames of one partition, or of one after the other, as far as they hold.

        Raises:
            FailedPrecondition: JOURNAL_DAMAGED, behind the last one.
        """
        async with self._reading() as connection:
            for number in await _partitions(connection):
                if partition in (None, number):
                    chain = Chain(_where(number), *(await _one(connection, "base", number)))
                    async for frames in _groups(connection, chain, number):
                        yield frames

    async def backup(self, to_url: str) -> list[FoundIn]:
        """Copy the logs and their snapshots while they are in use; return what the copy holds.

        Raises:
            FailedPrecondition: BACKUP_EXISTS, or JOURNAL_DAMAGED: it cannot be relied on.
        """
        async with self._reading() as source, _connected(to_url, self._password_file) as target:
            if await target.fetchval(SQL["has_tables"]):
                raise FailedPrecondition(
                    "BACKUP_EXISTS", "the database to write to has a journal: take an empty one"
                )
            schema, _ = await source.fetchrow(SQL["schema"])
            async with target.transaction():
                for step in migrations("postgres")[:schema]:
                    await target.execute(step.text)
                for table, query in COPIED.items():
                    await _copy(source, target, table, query)
                found = []
                for number in await _partitions(target):
                    await target.execute(SQL["add_lease"], number)
                    found.append(await _check(target, number))
                for one in found:
                    if one.damage:
                        raise FailedPrecondition("JOURNAL_DAMAGED", one.damage)
        return found

    async def cost(self, partition: int) -> str:
        """Return in a sentence or two what a repair of a partition would cost.

        Raises:
            FailedPrecondition: JOURNAL_DAMAGED: it cannot be made whole.
        """
        async with self._reading() as connection:
            return (await _plan(connection, partition)).costs

    async def repair(self, partition: int) -> str:
        """Make the damaged log of a partition whole again; return what that costs.

        Raises:
            FailedPrecondition: JOURNAL_IN_USE, or JOURNAL_DAMAGED: it cannot be made whole.
        """
        async with _connected(self._url, self._password_file) as connection:
            async with connection.transaction():
                held = await connection.fetchrow(SQL["hold_lease"], partition)
                if held is not None and held["lives"]:
                    raise FailedPrecondition(
                        "JOURNAL_IN_USE",
                        f"a scheduler owns partition {partition}: stop all of them first",
                    )
                # Whoever comes back and believes it still owns the partition writes no more.
                await connection.fetchval(SQL["raise_epoch"], partition)
                (begin, end, snapshots), costs = await _plan(connection, partition)
                seqs = [one.seq for one in snapshots]
                await connection.execute(SQL["cut_before"], partition, begin.seq)
                await connection.execute(SQL["cut_behind"], partition, end.seq)
                await connection.execute(SQL["begin_at"], partition, *begin)
                await connection.execute(SQL["cut_snapshots"], partition, begin.seq, seqs)
                mended = await _check(connection, partition)
                if mended.damage:
                    raise FailedPrecondition("JOURNAL_DAMAGED", mended.damage)
                return costs

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[Any]:
        async with _connected(self._url, self._password_file) as connection:
            if not await connection.fetchval(SQL["has_tables"]):
                raise FailedPrecondition(
                    "JOURNAL_UNREADABLE", "there is no journal in this database"
                )
            schema, _ = await connection.fetchrow(SQL["schema"])
            if schema > SCHEMA_VERSION:
                raise too_new("in PostgreSQL", schema, SCHEMA_VERSION)
            # What is dropped, written or handed over meanwhile is not seen.
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                yield connection


@asynccontextmanager
async def _connected(url: str, password_file: str) -> AsyncIterator[Any]:
    def password() -> str:
        return Path(password_file).read_text("utf-8").rstrip("\r\n")

    try:
        connection = await asyncpg.connect(
            url, password=password if password_file else None, timeout=CONNECT_S
        )
    except (*CUT_OFF, ValueError, asyncpg.PostgresError) as error:
        raise FailedPrecondition(
            "JOURNAL_UNREADABLE", f"the database cannot be reached: {error}"
        ) from None
    try:
        yield connection
    except (*CUT_OFF, asyncpg.PostgresError) as error:
        raise FailedPrecondition("JOURNAL_UNREADABLE", f"the database failed: {error}") from error
    finally:
        await connection.close()


async def _partitions(connection: Any) -> list[int]:
    return [row["partition"] for row in await connection.fetch(SQL["partitions"])]


async def _one(connection: Any, name: str, partition: int) -> Facts:
    row = await connection.fetchrow(SQL[name], partition)
    return Facts(*row) if row is not None else Facts(0, NO_HASH)


async def _groups(connection: Any, chain: Chain, partition: int) -> AsyncIterator[bytes]:
    while True:
        rows = await connection.fetch(SQL["groups_after"], partition, chain.last_seq, READ_LEN)
        if not rows:
            return
        for first_seq, last_seq, frames, _, stored in rows:
            chain.follow(first_seq, last_seq, frames, stored)
            yield frames


async def _check(connection: Any, partition: int) -> FoundIn:
    where = _where(partition)
    snapshots = await _snapshots(connection, partition)
    base = await _one(connection, "base", partition)
    chain, damage = Chain(where, *base), ""
    try:
        async for _ in _groups(connection, chain, partition):
            pass
    except FailedPrecondition as damaged:
        damage = damaged.message
    end = Facts(chain.last_seq, chain.last_hash)
    newest_seq = max([0, *(one.seq for one in snapshots)])
    if not damage and newest_seq > end.seq:
        damage = (
            f"the journal {where} is damaged at event {end.seq + 1}: events that the snapshot at "
            f"{newest_seq} holds are gone"
        )
    if not damage and base.seq > newest_seq:
        damage = f"the journal {where} is damaged: no whole snapshot holds its first events"
    return FoundIn(partition, base, end, damage, snapshots)


async def _snapshots(connection: Any, partition: int) -> list[Facts]:
    whole = []
    for row in await connection.fetch(SQL["snapshots"], partition):
        digest, count = sha256(), 0
        while count < row["parts"]:
            key = (partition, row["seq"], row["epoch"], count, PARTS_LEN)
            parts = await connection.fetch(SQL["snapshot_parts"], *key)
            if not parts:
                break
            for (packed,) in parts:
                digest.update(packed)
            count += len(parts)
        if digest.digest() == row["digest"]:
            whole.append(Facts(row["seq"], row["hash"]))
    return whole


async def _plan(connection: Any, partition: int) -> Plan:
    """Return what to keep: the stretch that reaches furthest."""
    base = await _one(connection, "base", partition)
    snapshots = await _snapshots(connection, partition)
    stretches = [
        await _walk(connection, partition, begin, snapshots) for begin in (base, *snapshots)
    ]
    kept = furthest(_where(partition), stretches)
    behind = await connection.fetch(SQL["groups_after"], partition, kept.end.seq, 1)
    return plan(f" of partition {partition}", base, kept, more=bool(behind))


async def _walk(connection: Any, partition: int, begin: Facts, snapshots: list[Facts]) -> Stretch:
    """Follow the chain from an event on, as far as it holds."""
    walk = Walk(_where(partition), begin, snapshots)
    with suppress(FailedPrecondition):
        async for _ in _groups(connection, walk.chain, partition):
            walk.step()
    following = await connection.fetchrow(SQL["groups_after"], partition, walk.last_first_seq, 1)
    return walk.walked(following["first_seq"] if following is not None else 0)


async def _copy(source: Any, target: Any, table: str, query: str) -> None:
    """Pass a table on; neither database is much ahead of the other."""
    pipe: asyncio.Queue[bytes | None] = asyncio.Queue(PIPE_LEN)

    async def read() -> None:
        try:
            await source.copy_from_query(query, output=pipe.put, format="binary")
        except Exception:
            await pipe.put(None)
            raise
        await pipe.put(None)

    async def chunks() -> AsyncIterator[bytes]:
        while (chunk := await pipe.get()) is not None:
            yield chunk

    reading = asyncio.create_task(read())
    try:
        await target.copy_to_table(table, source=chunks(), format="binary")
        await reading
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def _where(partition: int) -> str:
    return f"of partition {partition} in PostgreSQL"
