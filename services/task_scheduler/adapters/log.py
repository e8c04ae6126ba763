"""The event log of a data directory, looked at and mended without a scheduler."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from services.kernel.errors import FailedPrecondition
from services.task_scheduler.adapters.chain import NO_HASH, Chain, damaged
from services.task_scheduler.adapters.failpoints import Failpoints
from services.task_scheduler.adapters.files import Mark
from services.task_scheduler.adapters.mending import Plan, Stretch, Walk, furthest, plan
from services.task_scheduler.adapters.snapshots import Facts, SnapshotFiles
from services.task_scheduler.adapters.statements import statements

READ_LEN = 256
BACKUP_TRIES = 3
_SQL = statements("sqlite")


class Found(NamedTuple):
    """What a log holds."""

    base: Facts
    """The event before the first."""
    end: Facts
    """The last event that can be trusted."""
    damage: str
    """Why nothing behind it can; empty = the log is whole."""
    snapshots: list[tuple[Facts, Path]]


class LogFile:
    """The journal file of a data directory."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "task_scheduler.db"
        self._mark = Mark(directory / "task_scheduler.synced")
        self._snapshots = SnapshotFiles(directory, Failpoints())
        if not self.path.exists():
            raise FailedPrecondition("JOURNAL_UNREADABLE", f"there is no journal {self.path}")

    def check(self) -> Found:
        """Follow the chain of hashes as far as it holds."""
        with closing(self._connect("ro")) as connection:
            # In this order a log in use is never ahead of what it is compared with.
            base = Facts(*_one(connection, "base"))
            snapshots = self._snapshots.whole()
            newest_seq = max([0, *(facts.seq for facts, _ in snapshots)])
            synced_seq = max(self._mark.read(), newest_seq)
            chain = Chain(str(self.path), *base)
            try:
                for _ in _groups(connection, chain):
                    pass
                end = Facts(chain.last_seq, chain.last_hash)
                damage = ""
                if end.seq < synced_seq:
                    damage = (
                        f"the journal {self.path} is damaged at event {end.seq + 1}: events up to "
                        f"{synced_seq} were synced and are gone"
                    )
                elif base.seq > newest_seq:
                    damage = (
                        f"the journal {self.path} is damaged: no whole snapshot holds its first "
                        "events"
                    )
            except FailedPrecondition as broken:
                end, damage = Facts(chain.last_seq, chain.last_hash), broken.message
            except sqlite3.Error as error:
                end = Facts(chain.last_seq, chain.last_hash)
                damage = f"the journal {self.path} is damaged at event {end.seq + 1}: {error}"
        return Found(base, end, damage, snapshots)

    def events(self) -> Iterator[bytes]:
        """Yield the frames of all groups, up to the first that cannot be trusted.

        Raises:
            FailedPrecondition: JOURNAL_DAMAGED, behind the last one.
        """
        with closing(self._connect("ro")) as connection:
            chain = Chain(str(self.path), *_one(connection, "base"))
            yield from _groups(connection, chain)

    def backup(self, to: Path) -> Found:
        """Copy the log and its snapshots while they are in use; return what the copy holds.

        Raises:
            FailedPrecondition: BACKUP_EXISTS, or JOURNAL_DAMAGED: it cannot be relied on.
            OSError: It could not be written.
        """
        to.mkdir(parents=True, exist_ok=True)
        if any(to.iterdir()):
            raise FailedPrecondition("BACKUP_EXISTS", f"the directory {to} is not empty")
        for _ in range(BACKUP_TRIES):
            self._copy(to)
            found = LogFile(to).check()
            # Two snapshots later, what the first ones needed may be gone from the log: once more.
            if not found.damage:
                os.sync()
                return found
        raise FailedPrecondition("JOURNAL_DAMAGED", found.damage)

    def cost(self) -> str:
        """Return in a sentence or two what a repair would cost.

        Raises:
            FailedPrecondition: JOURNAL_DAMAGED: it cannot be made whole.
        """
        with closing(self._connect("ro")) as connection:
            return self._plan(connection).costs

    def repair(self) -> str:
        """Make a damaged log whole again; return what that costs.

        Raises:
            FailedPrecondition: JOURNAL_IN_USE, or JOURNAL_DAMAGED: it cannot be made whole.
        """
        with self._locked(), closing(self._connect("rw")) as connection:
            (begin, end, snapshots), costs = self._plan(connection)
            # Closed before the commit, all is as it was.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_SQL["cut_before"], (begin.seq,))
            connection.execute(_SQL["cut_behind"], (end.seq,))
            connection.execute(_SQL["begin_at"], begin)
            if self._walk(connection, Facts(*_one(connection, "base")), []).end != end:
                raise damaged(str(self.path), end.seq, "it could not be cut")
            connection.execute("COMMIT")
            # Killed in between, another repair finds the same stretch.
            if self._mark.read() > end.seq:
                self._mark.write(end.seq)
                self._mark.close()
            for facts, path in self._snapshots.whole():
                if facts.seq >= begin.seq and facts not in snapshots:
                    path.unlink()
        return costs

    def _copy(self, to: Path) -> None:
        """Copy what may be older than the log before the log."""
        for old in to.iterdir():
            old.unlink()
        if synced_seq := self._mark.read():
            mark = Mark(to / "task_scheduler.synced")
            mark.write(synced_seq)
            mark.close()
        for _, path in self._snapshots.whole():
            with suppress(FileNotFoundError):  # there is a newer one by now
                shutil.copyfile(path, to / path.name)
        target = sqlite3.connect(to / self.path.name)
        with closing(self._connect("ro")) as source, closing(target):
            source.backup(target)

    def _plan(self, connection: sqlite3.Connection) -> Plan:
        """Return what to keep: the stretch that reaches furthest."""
        base = Facts(*_one(connection, "base"))
        snapshots = [facts for facts, _ in self._snapshots.whole()]
        stretches = [self._walk(connection, begin, snapshots) for begin in (base, *snapshots)]
        kept = furthest(str(self.path), stretches)
        behind = connection.execute(_SQL["groups_after"], (kept.end.seq, 1)).fetchall()
        return plan("", base, kept, more=bool(behind) or self._mark.read() > kept.end.seq)

    def _walk(
        self, connection: sqlite3.Connection, begin: Facts, snapshots: list[Facts]
    ) -> Stretch:
        """Follow the chain from an event on, as far as it holds."""
        walk = Walk(str(self.path), begin, snapshots)
        with suppress(FailedPrecondition, sqlite3.Error):
            for _ in _groups(connection, walk.chain):
                walk.step()
        following_seq = 0
        with suppress(sqlite3.Error):
            for first_seq, *_ in connection.execute(
                _SQL["groups_after"], (walk.last_first_seq, 1)
            ).fetchall():
                following_seq = first_seq
        return walk.walked(following_seq)

    def _connect(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.path}?mode={mode}", uri=True, isolation_level=None)

    def _locked(self) -> closing[_Lock]:
        return closing(_Lock(self.path.with_suffix(".lock")))


class _Lock:
    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise FailedPrecondition(
                "JOURNAL_IN_USE", "a scheduler has the journal open: stop it first"
            ) from None

    def close(self) -> None:
        os.close(self._file)


def _one(connection: sqlite3.Connection, name: str) -> tuple[int, bytes]:
    row: tuple[int, bytes] | None = connection.execute(_SQL[name]).fetchone()
    return row if row is not None else (0, NO_HASH)


def _groups(connection: sqlite3.Connection, chain: Chain) -> Iterator[bytes]:
    while True:
        rows = connection.execute(_SQL["groups_after"], (chain.last_seq, READ_LEN)).fetchall()
        if not rows:
            return
        for first_seq, last_seq, frames, _, stored in rows:
            chain.follow(first_seq, last_seq, frames, stored)
            yield frames
