"""The default journal: one SQLite file in WAL mode, every commit synced, one writer thread.

`synchronous=FULL` is what makes an acknowledged event survive a power cut; group commit is what
makes it affordable. An fsync that fails is never repeated: what it left behind is unknown, so the
journal fails for good and the process reads the file again when it restarts.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from services.kernel.errors import FailedPrecondition
from services.task_scheduler.adapters.chain import NO_HASH, Chain, chained, damaged, too_new
from services.task_scheduler.adapters.failpoints import Failpoints, StorageFull
from services.task_scheduler.adapters.files import Mark, Reserve
from services.task_scheduler.adapters.search import Looked, look, search
from services.task_scheduler.adapters.snapshots import Facts, SnapshotFiles
from services.task_scheduler.adapters.statements import migrations, statements
from services.task_scheduler.adapters.verify import verify
from services.task_scheduler.ports import Group, Snapshot, StorageFailed

REPLAY_LEN = 256
REPLAY_BYTES = 1 << 20
"""Groups read at a time when the log is replayed: the next ones while these are applied."""
COMPACT_LEN = 200
"""Groups dropped in one commit, between the commits of the log."""
CHECKED_FIRST_BYTES = 256 << 20
"""A log up to this size is checked from its beginning before anything is answered (about half a
second); what a snapshot covers of a larger one is checked while the scheduler works already."""

T = TypeVar("T")
Connect = Callable[[Path], Any]

_MIGRATIONS = migrations("sqlite")
_SQL = statements("sqlite")
SCHEMA_VERSION = len(_MIGRATIONS)


def connect(path: Path) -> sqlite3.Connection:
    """Open the file with what is needed for commits that survive a power cut."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    # Fewer, larger checkpoints: the log is written once and hardly read.
    connection.execute("PRAGMA wal_autocheckpoint=4000")
    return connection


class SqliteJournal:
    """The log in `<directory>/task_scheduler.db`, its snapshots beside."""

    owner_address = ""
    reachable = True

    def __init__(
        self,
        directory: Path,
        *,
        reserve_bytes: int = 64 << 20,
        failpoint: Failpoints | None = None,
        connect: Connect = connect,
    ) -> None:
        self.path = directory / "task_scheduler.db"
        self.compacted_seq = 0
        self._failpoint = failpoint or Failpoints()
        self._connect = connect
        self._reserve = Reserve(directory / "task_scheduler.reserve", reserve_bytes)
        self._mark = Mark(directory / "task_scheduler.synced")
        self._snapshots = SnapshotFiles(directory, self._failpoint)
        self._lock: int | None = None
        self._hash = NO_HASH
        self._from = Facts(0, NO_HASH)
        """The snapshot that recovery begins with."""
        self._failed = ""
        self._checking: asyncio.Task[None] | None = None
        # One thread writes, one reads: a long read must not hold up a commit.
        self._writer = ThreadPoolExecutor(1, "journal-writer")
        self._reader = ThreadPoolExecutor(1, "journal-reader")
        self._writes: Any = None
        self._reads: Any = None

    async def open(self) -> None:
        """Take the log over.

        Raises:
            FailedPrecondition: JOURNAL_IN_USE, JOURNAL_TOO_NEW or JOURNAL_UNREADABLE.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            self._writes = self._connect(self.path)
            self._reads = self._connect(self.path)
            self._prepare(self._writes)
            self._snapshots.tidy()
        except (OSError, sqlite3.Error) as error:
            raise FailedPrecondition(
                "JOURNAL_UNREADABLE",
                f"the journal {self.path} cannot be opened: {error}; "
                "free or repair it, or set PODIUM_DATA_DIR to another directory",
            ) from None
        self._reserve.set_aside()

    async def own(self) -> None:
        """Return at once: the lock that `open` took says so."""

    async def lost(self) -> None:
        """Never return: the lock is kept."""
        await asyncio.get_running_loop().create_future()

    async def latest(self) -> Snapshot | None:
        """Return the newest snapshot that is whole."""
        found = await self._on(self._reader, self._snapshots.whole)
        if not found:
            return None
        self._from, path = found[0]
        return self._snapshots.read(self._from, path, self._reader)

    async def keep(self, seq: int, parts: AsyncIterator[bytes]) -> None:
        """Keep a snapshot of the state at event `seq`."""
        rows = await self._fetch("hash_at", seq)
        # Nothing may have been committed since the last one.
        facts = Facts(seq, rows[0][0]) if rows else self._from
        assert facts.seq == seq, f"event {seq} ends no group"
        await self._snapshots.write(facts, parts, self._reader)

    async def replay(self, after_seq: int) -> AsyncIterator[Sequence[Group]]:
        """Yield the groups behind a snapshot after checking the chain.

        Raises:
            FailedPrecondition: JOURNAL_DAMAGED, with the position.
        """
        base = Facts(*(await self._fetch("base"))[0])
        self.compacted_seq = base.seq
        start = self._from if after_seq else Facts(0, NO_HASH)
        assert start.seq == after_seq, "the replay follows the latest snapshot"
        await self._check_ends(base, start)
        older = asyncio.create_task(self._check_older(base, start))
        chain = Chain(str(self.path), *start)
        reading = asyncio.create_task(self._reading(lambda: self._follow_some(chain)))
        try:
            while groups := await reading:
                reading = asyncio.create_task(self._reading(lambda: self._follow_some(chain)))
                yield groups
            self._hash = chain.last_hash
            if self.path.stat().st_size <= CHECKED_FIRST_BYTES:
                await older
        except BaseException:
            reading.cancel()
            older.cancel()
            raise
        self._checking = older
        older.add_done_callback(self._checked)

    async def append(self, group: Group) -> None:
        """Return when `group` is durable.

        Raises:
            StorageFailed: It is not; the journal is closed to writes.
        """
        if self._failed:
            raise StorageFailed(self._failed)
        await self._on(self._writer, lambda: self._append(group))

    async def read(self, after_seq: int, size_bytes_max: int) -> Sequence[Group]:
        """Return the groups behind `after_seq`, about `size_bytes_max` of them."""
        return await self._reading(lambda: self._read_some(after_seq, size_bytes_max))

    def search(
        self, needle: bytes, first_seq: int, last_seq: int
    ) -> AsyncIterator[Sequence[Group]]:
        """Yield the groups within a range of events that contain `needle`."""

        def some(from_seq: int) -> list[Looked]:
            with closing(
                self._reads.execute(_SQL["groups_with"], (needle, from_seq, last_seq, from_seq))
            ) as c:
                return look(c)

        return search(lambda seq: self._reading(lambda: some(seq)), first_seq, last_seq)

    async def compact(self, before_ms: int, size_bytes_max: int) -> None:
        """Drop old groups that no kept snapshot needs; their space is used again."""
        if self._checking is not None and not self._checking.done():
            return
        through_seq = self._snapshots.oldest_seq
        while await self._on(
            self._writer, lambda: self._compact_some(through_seq, before_ms, size_bytes_max)
        ):
            pass

    async def verify(self, after_seq: int) -> int:
        """Check the next groups of the chain, and return the last event of them."""
        return await verify(str(self.path), self._fetch, after_seq)

    def short_of_space(self) -> bool:
        """Whether the reserve had to be given up and could not be set aside again."""
        if self._reserve.short and self._writes is not None:
            self._reserve.set_aside()
        return self._reserve.short

    async def close(self) -> None:
        """Finish and let go of the log."""
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.gather(self._checking, return_exceptions=True)
        for pool, connection in ((self._writer, self._writes), (self._reader, self._reads)):
            if connection is not None:
                await self._on(pool, connection.close)
            pool.shutdown()
        self._writes = self._reads = None
        self._mark.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        # Beside the file, not on it: SQLite's own locks would be lost with another descriptor.
        lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise FailedPrecondition(
                "JOURNAL_IN_USE",
                f"another scheduler has the journal {self.path} open: stop it, "
                "or set PODIUM_DATA_DIR to another directory",
            ) from None
        self._lock = lock

    def _prepare(self, connection: Any) -> None:
        known = connection.execute(
            "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'about'"
        ).fetchone()[0]
        row = connection.execute(_SQL["schema"]).fetchone() if known else None
        schema = int(row[0]) if row else 0
        if schema > SCHEMA_VERSION:
            raise too_new(str(self.path), schema, SCHEMA_VERSION)
        for step in _MIGRATIONS[schema:]:
            version = f"INSERT OR REPLACE INTO about VALUES ('schema', '{step.number}');"
            connection.executescript(f"BEGIN;\n{step.text}\n{version}\nCOMMIT;")

    async def _check_ends(self, base: Facts, start: Facts) -> None:
        """Refuse a log that does not reach from where recovery begins to what was synced."""
        rows = await self._fetch("end")
        end = Facts(*rows[0]) if rows else base
        synced_seq = max(self._mark.read(), start.seq)
        if end.seq < synced_seq:
            raise damaged(
                str(self.path), end.seq + 1, f"events up to {synced_seq} were synced and are gone"
            )
        if start.seq < base.seq:
            raise damaged(
                str(self.path),
                start.seq + 1,
                f"no whole snapshot holds the events up to {base.seq}",
            )
        at_start = await self._fetch("hash_at", start.seq) if start.seq > base.seq else []
        stored = at_start[0][0] if at_start else base.hash
        if start.seq and stored != start.hash:
            raise damaged(str(self.path), start.seq, "the snapshot is of another log")

    def _follow_some(self, chain: Chain) -> list[Group]:
        """Return the next groups of a chain; its hashes are checked beside the event loop."""
        groups: list[Group] = []
        size_bytes = 0
        cursor = self._reads.execute(_SQL["groups_after"], (chain.last_seq, REPLAY_LEN))
        try:
            for first_seq, last_seq, frames, wall_ms, stored in cursor:
                chain.follow(first_seq, last_seq, frames, stored)
                groups.append(Group(first_seq, last_seq, frames, wall_ms))
                size_bytes += len(frames)
                if size_bytes >= REPLAY_BYTES:
                    break
        finally:
            cursor.close()
        return groups

    async def _check_older(self, base: Facts, start: Facts) -> None:
        """Check what the snapshot covers, so that damage there is not found years later."""
        chain = Chain(str(self.path), *base)
        while chain.last_seq < start.seq:
            groups = await self._reading(lambda: self._follow_some(chain))
            if not groups and chain.last_seq < start.seq:
                if self.compacted_seq > chain.last_seq:
                    return
                raise damaged(str(self.path), chain.last_seq + 1, "events are missing")

    def _checked(self, older: asyncio.Task[None]) -> None:
        if not older.cancelled() and (error := older.exception()) is not None:
            self._failed = str(error)

    def _append(self, group: Group) -> None:
        try:
            try:
                self._commit(group)
            except (sqlite3.OperationalError, StorageFull) as error:
                if not _is_full(error) or not self._reserve.give_up():
                    raise
                self._commit(group)
        except (sqlite3.Error, OSError, StorageFailed) as error:
            self._failed = str(error)
            raise StorageFailed(f"the journal {self.path} failed: {error}") from error

    def _commit(self, group: Group) -> None:
        self._failpoint("before_append")
        following = chained(self._hash, group.frames)
        with _transaction(self._writes) as execute:
            row = (group.first_seq, group.last_seq, group.wall_ms, following, group.frames)
            execute(_SQL["insert_group"], row)
            self._failpoint("after_append")
        self._hash = following
        self._failpoint("after_sync")
        self._mark.write(group.last_seq)

    def _compact_some(self, through_seq: int, before_ms: int, size_bytes_max: int) -> bool:
        """Drop the oldest groups; return whether there may be more to drop."""
        if self._writes is None or self._failed:
            return False
        execute = self._writes.execute
        pages, free, page_bytes = (
            execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        over = (pages - free) * page_bytes > size_bytes_max
        rows = execute(_SQL["oldest"], (through_seq, COMPACT_LEN)).fetchall()
        rows = [row for row in rows if over or row[2] < before_ms]
        if not rows:
            return False
        last_seq, last_hash = rows[-1][1], rows[-1][3]
        self._failpoint("before_compaction")
        with _transaction(self._writes):
            execute(_SQL["drop_through"], (last_seq,))
            execute(_SQL["begin_at"], (last_seq, last_hash))
        self.compacted_seq = last_seq
        self._failpoint("after_compaction")
        return len(rows) == COMPACT_LEN

    def _read_some(self, after_seq: int, size_bytes_max: int) -> list[Group]:
        found: list[Group] = []
        size_bytes = 0
        cursor = self._reads.execute(_SQL["groups_behind"], (after_seq + 1,))
        for row in cursor:
            group = Group(*row)
            if group.last_seq <= after_seq:
                continue
            found.append(group)
            size_bytes += len(group.frames)
            if size_bytes >= size_bytes_max:
                break
        # An open statement would keep the log from being checkpointed.
        cursor.close()
        return found

    async def _fetch(self, name: str, *values: Any) -> list[Any]:
        def fetch() -> list[Any]:
            rows: list[Any] = self._reads.execute(_SQL[name], values).fetchall()
            return rows

        return await self._reading(fetch)

    async def _reading(self, work: Callable[[], T]) -> T:
        try:
            return await self._on(self._reader, work)
        except sqlite3.Error as error:
            raise FailedPrecondition(
                "JOURNAL_UNREADABLE",
                f"the journal {self.path} cannot be read: {error}; see "
                "`python -m services.task_scheduler log --help` for what can be saved",
            ) from None

    @staticmethod
    async def _on(pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, work)


@contextmanager
def _transaction(connection: Any) -> Iterator[Callable[..., Any]]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection.execute
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _is_full(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, StorageFull) or code == sqlite3.SQLITE_FULL
