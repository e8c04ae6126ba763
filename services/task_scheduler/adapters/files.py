"""The small files beside the journal: the reserve, and the mark of what was synced."""

from __future__ import annotations

import os
import zlib
from pathlib import Path


class Reserve:
    """Disk space set aside: what was promised must find some when the disk is full."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes
        self.short = False
        """Whether it was given up, or could not be set aside."""

    def set_aside(self) -> None:
        """Set the space aside, or note that there is none."""
        try:
            with self._path.open("ab") as reserve:
                if reserve.tell() < self._size_bytes:
                    os.posix_fallocate(reserve.fileno(), 0, self._size_bytes)
            self.short = False
        except OSError:
            # What it got is needed by what was promised: all or nothing.
            self.give_up()

    def give_up(self) -> bool:
        """Free the space; return whether there was any."""
        self.short = True
        try:
            self._path.unlink()
        except OSError:
            return False
        return True


class Mark:
    """The last event that was synced, told apart from the journal.

    SQLite takes a damaged end of its write-ahead log for one that was never synced and drops it
    without a word. The mark is written behind each sync and not synced itself: it may be older than
    the journal, never newer.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def read(self) -> int:
        """Return the event; 0 when there is no mark that can be read."""
        try:
            text, _, check = self._path.read_text("ascii").strip().partition(" ")
            return int(text) if int(check, 16) == zlib.crc32(text.encode()) else 0
        except (OSError, ValueError):
            return 0

    def write(self, seq: int) -> None:
        """Note that `seq` is synced."""
        if self._file is None:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        text = f"{seq:020d}".encode()
        os.pwrite(self._file, b"%s %08x\n" % (text, zlib.crc32(text)), 0)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
