"""The default journal: one SQLite file in WAL mode, every commit synced, one writer thread.

`synchronous=FULL` is what makes an acknowledged event survive a power cut; group commit is what
makes it affordable. An fsync that fails is never repeated: what it left behind is unknown, so the
journal fails for good and the process reads the file again when it restarts.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from services.kernel.errors import FailedPrecondition
from services.task_scheduler.adapters.failpoints import Failpoints, StorageFull
from services.task_scheduler.ports import Group, StorageFailed

SCHEMA_VERSION = 1
REPLAY_LEN = 256
"""Groups read at a time when the log is replayed."""
NO_HASH = b"\0" * 32

T = TypeVar("T")

_TABLES = files("services.task_scheduler.adapters").joinpath("sql/journal.sql").read_text("utf-8")
_INSERT = "INSERT INTO groups (first_seq, last_seq, hash, frames) VALUES (?, ?, ?, ?)"
_FROM = "SELECT first_seq, last_seq, hash, frames FROM groups WHERE first_seq > ? ORDER BY 1"
_BEHIND = (
    "SELECT first_seq, last_seq, frames FROM groups WHERE first_seq >= coalesce("
    "(SELECT max(first_seq) FROM groups WHERE first_seq <= ?), 0) ORDER BY first_seq"
)
_SEARCH = (
    "SELECT first_seq, last_seq, frames FROM groups WHERE first_seq >= coalesce("
    "(SELECT max(first_seq) FROM groups WHERE first_seq <= ?), 0) AND first_seq <= ? "
    "AND instr(frames, ?) > 0 ORDER BY first_seq"
)


class SqliteJournal:
    """The log in `<directory>/task_scheduler.db`."""

    def __init__(
        self,
        directory: Path,
        *,
        reserve_bytes: int = 64 << 20,
        failpoint: Failpoints | None = None,
    ) -> None:
        self.path = directory / "task_scheduler.db"
        self._reserve_path = directory / "task_scheduler.reserve"
        self._reserve_bytes = reserve_bytes
        self._failpoint = failpoint or Failpoints()
        self._lock: int | None = None
        self._hash = NO_HASH
        self._short = False
        self._failed = ""
        # One thread writes, one reads: a long read must not hold up a commit.
        self._writer = ThreadPoolExecutor(1, "journal-writer")
        self._reader = ThreadPoolExecutor(1, "journal-reader")
        self._writes: sqlite3.Connection | None = None
        self._reads: sqlite3.Connection | None = None

    def open(self) -> None:
        """Take the log over.

        Raises:
            FailedPrecondition: JOURNAL_IN_USE, JOURNAL_TOO_NEW or JOURNAL_UNREADABLE.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            self._writes = self._connect()
            self._reads = self._connect()
            self._prepare(self._writes)
        except (OSError, sqlite3.Error) as error:
            raise FailedPrecondition(
                "JOURNAL_UNREADABLE",
                f"the journal {self.path} cannot be opened: {error}; "
                "free or repair it, or set PODIUM_DATA_DIR to another directory",
            ) from None
        self._set_reserve_aside()

    async def replay(self) -> AsyncIterator[Sequence[Group]]:
        """Yield all groups after checking the chain.

        Raises:
            FailedPrecondition: JOURNAL_DAMAGED, with the position.
        """
        first_seq, self._hash, expected = 0, NO_HASH, 1
        while True:
            after = first_seq
            rows = await self._read(_FROM + " LIMIT ?", (after, REPLAY_LEN))
            if not rows:
                return
            groups = []
            for first_seq, last_seq, stored, frames in rows:
                self._hash = chained(self._hash, frames)
                if stored != self._hash or first_seq != expected or last_seq < first_seq:
                    raise FailedPrecondition(
                        "JOURNAL_DAMAGED",
                        f"the journal {self.path} is damaged at event {expected}: what follows "
                        "cannot be trusted; restore the file from a backup",
                        metadata={"seq": str(expected)},
                    )
                expected = last_seq + 1
                groups.append(Group(first_seq, last_seq, frames))
            yield groups

    async def append(self, group: Group) -> None:
        """Return when `group` is durable.

        Raises:
            StorageFailed: It is not; the journal is closed to writes.
        """
        if self._failed:
            raise StorageFailed(self._failed)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._writer, self._append, group)

    async def read(self, after_seq: int, size_bytes_max: int) -> Sequence[Group]:
        """Return the groups behind `after_seq`, about `size_bytes_max` of them."""
        return await self._on_reader(lambda: self._read_some(after_seq, size_bytes_max))

    async def search(self, needle: bytes, first_seq: int, last_seq: int) -> Sequence[Group]:
        """Return the groups within a range of events that contain `needle`."""
        rows = await self._read(_SEARCH, (first_seq, last_seq, needle))
        return [Group(*row) for row in rows]

    def short_of_space(self) -> bool:
        """Whether the reserve had to be given up and could not be set aside again."""
        if self._short and self._writes is not None:
            self._set_reserve_aside()
        return self._short

    async def close(self) -> None:
        """Finish and let go of the log."""
        loop = asyncio.get_running_loop()
        for pool, connection in ((self._writer, self._writes), (self._reader, self._reads)):
            if connection is not None:
                await loop.run_in_executor(pool, connection.close)
            pool.shutdown()
        self._writes = self._reads = None
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

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        # Fewer, larger checkpoints: the log is written once and hardly read.
        connection.execute("PRAGMA wal_autocheckpoint=4000")
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.executescript(_TABLES)
        row = connection.execute("SELECT value FROM about WHERE name = 'schema'").fetchone()
        if row is None:
            connection.execute("INSERT INTO about VALUES ('schema', ?)", (str(SCHEMA_VERSION),))
        elif int(row[0]) > SCHEMA_VERSION:
            raise FailedPrecondition(
                "JOURNAL_TOO_NEW",
                f"the journal {self.path} was written by a newer Podium (schema {row[0]}, this one "
                f"reads {SCHEMA_VERSION}): run that version, or set PODIUM_DATA_DIR elsewhere",
                metadata={"schema": row[0]},
            )

    def _append(self, group: Group) -> None:
        try:
            try:
                self._commit(group)
            except (sqlite3.OperationalError, StorageFull) as error:
                if not _is_full(error) or not self._give_up_reserve():
                    raise
                self._commit(group)
        except (sqlite3.Error, OSError, StorageFailed) as error:
            self._failed = str(error)
            raise StorageFailed(f"the journal {self.path} failed: {error}") from error

    def _commit(self, group: Group) -> None:
        connection = self._writes
        assert connection is not None
        self._failpoint("before_append")
        following = chained(self._hash, group.frames)
        connection.execute("BEGIN IMMEDIATE")
        try:
            row = (group.first_seq, group.last_seq, following, group.frames)
            connection.execute(_INSERT, row)
            self._failpoint("after_append")
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        self._hash = following
        self._failpoint("after_sync")

    def _set_reserve_aside(self) -> None:
        """Keep space for what was promised already: outcomes must find some on a full disk."""
        try:
            with self._reserve_path.open("ab") as reserve:
                if reserve.tell() < self._reserve_bytes:
                    os.posix_fallocate(reserve.fileno(), 0, self._reserve_bytes)
            self._short = False
        except OSError:
            self._short = True

    def _give_up_reserve(self) -> bool:
        self._short = True
        try:
            self._reserve_path.unlink()
        except OSError:
            return False
        return True

    def _read_some(self, after_seq: int, size_bytes_max: int) -> list[Group]:
        assert self._reads is not None
        found: list[Group] = []
        size_bytes = 0
        cursor = self._reads.execute(_BEHIND, (after_seq + 1,))
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

    async def _read(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        def fetch() -> list[Any]:
            assert self._reads is not None
            return self._reads.execute(statement, values).fetchall()

        return await self._on_reader(fetch)

    async def _on_reader(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reader, work)


def chained(before: bytes, frames: bytes) -> bytes:
    """Return the hash of a group, given the hash of the one before it."""
    digest = hashlib.sha256(before)
    digest.update(frames)
    return digest.digest()


def _is_full(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, StorageFull) or code == sqlite3.SQLITE_FULL
