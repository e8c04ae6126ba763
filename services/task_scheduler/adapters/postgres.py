"""The journal in PostgreSQL, for several replicas: one owns the log of a partition at a time.

A commit is one statement that compares the owner's epoch and inserts the group, so a process that
no longer owns the log cannot write to it. When the connection breaks in the middle of a commit, its
outcome is read back, behind a new epoch that shuts the broken connection out; it is never repeated
blindly.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from typing import Any

import asyncpg

from services.kernel.clock import Clock
from services.kernel.errors import FailedPrecondition, Unavailable
from services.task_scheduler.adapters.chain import NO_HASH, Chain, chained, damaged
from services.task_scheduler.adapters.database import CONNECTIONS_MAX, SQL, Database
from services.task_scheduler.adapters.failpoints import Failpoints, StorageFull
from services.task_scheduler.adapters.lease import CUT_OFF, Lease
from services.task_scheduler.adapters.search import SEARCH_BYTES, Looked, look, search
from services.task_scheduler.adapters.snapshots import KEPT, Facts
from services.task_scheduler.adapters.verify import verify
from services.task_scheduler.ports import Group, LogLost, Snapshot, StorageFailed

log = logging.getLogger("podium.task_scheduler.postgres")

REPLAY_LEN = 256
COMPACT_LEN = 200
PARTS_LEN = 64
RETRY_S = 0.2
READ_TRIES = CONNECTIONS_MAX + 1
"""Each connection of the pool may be a broken one."""
RETRY_AFTER_S = 0.5


class PostgresJournal:
    """The log of one partition.

    Args:
        database: The database.
        clock: Its time.
        address: Where other replicas reach this one, once it listens: it owns nothing before.
        lease_ttl_s: Seconds without renewal after which another replica may take over.
        partition: The partition.
        failpoint: Faults, for tests.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        address: asyncio.Future[str],
        lease_ttl_s: float = 6.0,
        partition: int = 0,
        failpoint: Failpoints | None = None,
    ) -> None:
        self.compacted_seq = 0
        self._address = address
        self._database = database
        self._clock = clock
        self._ttl_s = lease_ttl_s
        self._partition = partition
        self._where = f"of partition {partition} in PostgreSQL"
        self._failpoint = failpoint or Failpoints()
        self._hash = NO_HASH
        self._from = Facts(0, NO_HASH)
        self._failed = "the journal is not open"
        self._full = False
        self._lease: Lease | None = None
        self._closed = True

    @property
    def owner_address(self) -> str:
        """Where the owner is, while that is another process."""
        return self._lease.owner_address if self._lease is not None else ""

    @property
    def reachable(self) -> bool:
        """Whether the lease has time left."""
        return self._lease is not None and self._lease.reachable

    @property
    def _connected(self) -> asyncpg.Pool:
        if self._closed:
            raise StorageFailed("the journal is closed")
        return self._database.connected

    async def open(self) -> None:
        """Connect; raises what `Database.open` does."""
        await self._database.open()
        self._closed = False
        self._lease = Lease(
            self._connected, SQL, self._partition, self._database.owner, self._ttl_s, self._clock
        )

    async def take(self) -> bool:
        """Own the partition if nobody does; tell whether it worked."""
        assert self._lease is not None
        try:
            return await self._lease.take(await self._address)
        except CUT_OFF as error:
            log.warning("the database cannot be reached: %s", error)
            return False

    async def own(self) -> None:
        """Return when this process owns the partition; until then another one answers."""
        assert self._lease is not None
        await self._lease.own(await self._address)
        self._failed = ""

    async def lost(self) -> None:
        """Return when another process has taken over."""
        assert self._lease is not None
        await self._lease.lost()
        self._failed = "another scheduler owns the log now"

    async def latest(self) -> Snapshot | None:
        """Return the newest snapshot that is whole."""
        for found in await self._fetch("snapshots"):
            try:
                # Before any of it is taken: half a state cannot be taken back.
                async for _ in self._parts(found):
                    pass
            except FailedPrecondition as error:
                log.error("a snapshot is damaged and left out: %s", error.message)
                continue
            self._from = Facts(found["seq"], found["hash"])
            return Snapshot(self._from.seq, self._parts(found))
        return None

    async def keep(self, seq: int, parts: AsyncIterator[bytes]) -> None:
        """Keep a snapshot of the state at event `seq`."""
        try:
            await self._keep(seq, parts)
        except (*CUT_OFF, asyncpg.PostgresError) as error:
            raise StorageFailed(f"the snapshot was not written: {error}") from error

    async def replay(self, after_seq: int) -> AsyncIterator[Sequence[Group]]:
        """Yield the groups behind a snapshot after checking the chain.

        Raises:
            FailedPrecondition: JOURNAL_DAMAGED, with the position.
        """
        base = Facts(*(await self._fetch("base"))[0])
        self.compacted_seq = base.seq
        start = self._from if after_seq else Facts(0, NO_HASH)
        assert start.seq == after_seq, "the replay follows the latest snapshot"
        end = await self._fetch("end")
        if start.seq > (end[0]["last_seq"] if end else base.seq):
            raise damaged(self._where, start.seq, "events that a snapshot holds are gone")
        if start.seq < base.seq:
            raise damaged(self._where, start.seq + 1, "no snapshot holds the first events")
        chain = Chain(self._where, *start)
        while rows := await self._fetch("groups_after", chain.last_seq, REPLAY_LEN):
            groups = []
            for first_seq, last_seq, frames, wall_ms, stored in rows:
                chain.follow(first_seq, last_seq, frames, stored)
                groups.append(Group(first_seq, last_seq, frames, wall_ms))
            yield groups
        self._hash = chain.last_hash

    async def append(self, group: Group) -> None:
        """Return when `group` is durable.

        Raises:
            StorageFailed: It is not; the journal is closed to writes.
        """
        if self._failed:
            raise StorageFailed(self._failed)
        following = chained(self._hash, group.frames)
        try:
            self._failpoint("before_append")
            written = await self._insert(group, following)
        except CUT_OFF as error:
            log.warning("a commit is in doubt: %s", error)
            self._full = isinstance(error, asyncpg.DiskFullError | StorageFull)
            written = await self._resolve(group, following)
            self._full = False
        except asyncpg.PostgresError as error:
            written = False
            self._failed = f"the commit was refused: {error}"
        if not written:
            if self._failed:
                raise StorageFailed(self._failed)
            self._failed = "another scheduler owns the log now"
            raise LogLost(self._failed)
        self._hash = following
        self._failpoint("after_sync")

    async def read(self, after_seq: int, size_bytes_max: int) -> Sequence[Group]:
        """Return the groups behind `after_seq`, about `size_bytes_max` of them."""
        rows = await self._fetch("groups_behind", after_seq, size_bytes_max)
        return [Group(*row) for row in rows]

    def search(
        self, needle: bytes, first_seq: int, last_seq: int
    ) -> AsyncIterator[Sequence[Group]]:
        """Yield the groups within a range of events that contain `needle`."""

        async def some(from_seq: int) -> list[Looked]:
            return look(await self._fetch("groups_with", from_seq, last_seq, needle, SEARCH_BYTES))

        return search(some, first_seq, last_seq)

    async def compact(self, before_ms: int, size_bytes_max: int) -> None:
        """Drop old groups that no kept snapshot needs."""
        try:
            await self._compact(before_ms, size_bytes_max)
        except (*CUT_OFF, asyncpg.PostgresError) as error:
            raise StorageFailed(f"old events were not dropped: {error}") from error

    async def verify(self, after_seq: int) -> int:
        """Check the next groups of the chain, and return the last event of them."""
        return await verify(self._where, self._fetch, after_seq)

    def short_of_space(self) -> bool:
        """Whether a commit waits for space."""
        return self._full

    async def close(self) -> None:
        """Give the lease back and disconnect."""
        self._failed = self._failed or "the journal is closed"
        if self._lease is not None:
            await self._lease.release()
            self._lease = None
        if not self._closed:
            self._closed = True
            await self._database.close()

    async def _fetch(self, name: str, *values: Any) -> list[Any]:
        """Return rows; a connection that broke while it was idle is no reason to fail."""
        for _ in range(READ_TRIES):
            try:
                rows: list[Any] = await self._connected.fetch(SQL[name], self._partition, *values)
                return rows
            except CUT_OFF as error:
                log.warning("a read from the database failed: %s", error)
                await self._clock.sleep(RETRY_S)
        raise Unavailable(
            "STORAGE_UNREACHABLE",
            "The journal cannot be reached: try again.",
            retry_after_s=RETRY_AFTER_S,
        )

    async def _insert(self, group: Group, following: bytes) -> bool:
        assert self._lease is not None
        row = (group.first_seq, group.last_seq, group.wall_ms, following, group.frames)
        values = (SQL["append"], self._partition, self._lease.epoch, *row)
        if "after_append" not in self._failpoint:
            return await self._connected.fetchval(*values) is not None
        # What is one statement, and so one way to the database, has no such moment of its own.
        async with self._connected.acquire() as connection, connection.transaction():
            found = await connection.fetchval(*values)
            self._failpoint("after_append")
        return found is not None

    async def _resolve(self, group: Group, following: bytes) -> bool:
        """Find out what became of a commit whose connection broke, and finish it."""
        assert self._lease is not None
        while True:
            try:
                # Behind the new epoch the lost connection can no longer commit: what is there now
                # is what there will be.
                if not await self._lease.fence():
                    return False
                stored = await self._connected.fetchval(
                    SQL["hash_of"], self._partition, group.first_seq
                )
                if stored is not None:
                    return bool(stored == following)
                return await self._insert(group, following)
            except CUT_OFF as error:
                self._full = isinstance(error, asyncpg.DiskFullError)
                await self._clock.sleep(RETRY_S)

    async def _keep(self, seq: int, parts: AsyncIterator[bytes]) -> None:
        assert self._lease is not None
        pool, epoch, partition = self._connected, self._lease.epoch, self._partition
        seq_hash = await pool.fetchval(SQL["hash_at"], partition, seq)
        facts = Facts(seq, seq_hash) if seq_hash is not None else self._from
        assert facts.seq == seq, f"event {seq} ends no group"
        self._failpoint("before_snapshot_write")
        await pool.execute(SQL["drop_parts"], partition, epoch)
        digest, count = sha256(), 0
        pending: list[tuple[int, int, int, int, bytes]] = []
        async for part in parts:
            digest.update(part)
            pending.append((partition, seq, epoch, count, part))
            count += 1
            if len(pending) == PARTS_LEN:
                await pool.copy_records_to_table("podium_snapshot_parts", records=pending)
                pending = []
        await pool.copy_records_to_table("podium_snapshot_parts", records=pending)
        self._failpoint("before_snapshot_rename")
        done = await pool.fetchval(
            SQL["finish_snapshot"], partition, epoch, seq, facts.hash, count, digest.digest()
        )
        if done is None:
            raise StorageFailed("the log has another owner by now, or parts of it are gone")
        self._failpoint("after_snapshot_rename")
        await pool.execute(SQL["drop_snapshots"], partition, epoch, KEPT)
        await pool.execute(SQL["drop_parts"], partition, epoch)
        self._failpoint("after_snapshot_sync")

    async def _parts(self, whole: Any) -> AsyncIterator[bytes]:
        digest, count = sha256(), 0
        while count < whole["parts"]:
            key = (whole["seq"], whole["epoch"], count)
            rows = await self._fetch("snapshot_parts", *key, PARTS_LEN)
            if not rows:
                break
            for (packed,) in rows:
                digest.update(packed)
                count += 1
                yield packed
        if digest.digest() != whole["digest"]:
            raise damaged(self._where, whole["seq"], "the snapshot there is not what was written")

    async def _compact(self, before_ms: int, size_bytes_max: int) -> None:
        assert self._lease is not None
        pool, partition = self._connected, self._partition
        found = await pool.fetch(SQL["snapshots"], partition)
        if len(found) < KEPT:
            return
        through_seq = found[-1]["seq"]
        left_bytes: int = await pool.fetchval(SQL["size"], partition)
        while not self._failed:
            rows = await pool.fetch(SQL["oldest"], partition, through_seq, COMPACT_LEN)
            last = None
            for row in rows:
                if left_bytes <= size_bytes_max and row["wall_ms"] >= before_ms:
                    break
                left_bytes -= row["size_bytes"]
                last = row
            if last is None:
                return
            self._failpoint("before_compaction")
            await pool.execute(
                SQL["drop_through"], partition, self._lease.epoch, last["last_seq"], last["hash"]
            )
            self.compacted_seq = last["last_seq"]
            self._failpoint("after_compaction")
            if last is not rows[-1] or len(rows) < COMPACT_LEN:
                return
