"""A disk for SQLite that loses power, runs full or fails to sync, as the test says.

It keeps, beside what was written, what was synced: a power cut leaves only that. A killed process
is no substitute, for the kernel keeps what it wrote.
"""

from __future__ import annotations

import itertools
import sqlite3
from pathlib import Path
from typing import Any

import apsw

_numbers = itertools.count(1)


class Disk(apsw.VFS):
    """A file system in front of the real one."""

    def __init__(self, *, synchronous: str = "FULL") -> None:
        self.name = f"disk{next(_numbers)}"
        self.synchronous = synchronous
        self.synced: dict[str, bytearray] = {}
        """What a power cut leaves of each file."""
        self.syncs = 0
        self.failing_syncs = 0
        """How many of the next syncs fail."""
        self.full = False
        self._shared: dict[str, Any] = {}
        super().__init__(self.name, "")

    def connect(self, path: Path) -> Connection:
        """Opens the file as the journal does; its two connections are one here."""
        if str(path) not in self._shared:
            self._shared[str(path)] = Connection(path, self)
        return self._shared[str(path)]  # type: ignore[no-any-return]  # put there above

    def cut_power(self, into: Path) -> None:
        """Writes what is left into a directory."""
        into.mkdir()
        for name, data in self.synced.items():
            (into / Path(name).name).write_bytes(data)

    def xOpen(self, name: Any, flags: list[int]) -> File:
        return File(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        self.synced.pop(filename, None)


class File(apsw.VFSFile):
    """One open file."""

    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._name = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self._written: list[tuple[int, bytes | None]] = []
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        if self._disk.full:
            raise apsw.FullError("the disk is full")
        super().xWrite(data, offset)
        self._written.append((offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:
        super().xTruncate(newsize)
        self._written.append((newsize, None))

    def xSync(self, flags: int) -> None:
        if self._disk.failing_syncs:
            self._disk.failing_syncs -= 1
            raise apsw.IOError("fsync failed")
        super().xSync(flags)
        self._disk.syncs += 1
        kept = self._disk.synced.setdefault(self._name, bytearray())
        for offset, data in self._written:
            if data is None:
                del kept[offset:]
                continue
            kept.extend(bytes(max(0, offset + len(data) - len(kept))))
            kept[offset : offset + len(data)] = data
        self._written.clear()


class Connection:
    """An apsw connection that speaks as one of sqlite3."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self._connection = apsw.Connection(str(path), vfs=disk.name)
        # Without the shared memory that a file system in front of the real one does not offer.
        self.execute("PRAGMA locking_mode=EXCLUSIVE")
        self.execute("PRAGMA journal_mode=WAL")
        self.execute(f"PRAGMA synchronous={disk.synchronous}")

    def execute(self, statement: str, values: Any = ()) -> Any:
        try:
            return self._connection.execute(statement, values)
        except apsw.Error as error:
            failed = sqlite3.OperationalError(str(error))
            # What `File` raises itself comes back as it was raised.
            full = isinstance(error, apsw.FullError)
            failed.sqlite_errorcode = sqlite3.SQLITE_FULL if full else sqlite3.SQLITE_IOERR
            raise failed from error

    def executescript(self, script: str) -> None:
        self.execute(script).fetchall()

    def close(self) -> None:
        self._connection.close()
