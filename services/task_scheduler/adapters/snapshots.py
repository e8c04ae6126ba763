"""Snapshots as files beside the journal: written aside, synced, then renamed.

A file is whole or it is not taken: it ends with the hash of all before. The two newest are kept, so
that damage to one costs time and no state.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import struct
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

from services.task_scheduler.adapters.failpoints import Failpoints
from services.task_scheduler.adapters.files import sync_directory
from services.task_scheduler.ports import Snapshot, StorageFailed

log = logging.getLogger("podium.task_scheduler.snapshots")

KEPT = 2
WRITE_BYTES = 1 << 20
_HEAD = b"podium snapshot 1\n"
_LENGTH = struct.Struct("<I")
_FACTS = struct.Struct("<Q32s")


class Facts(NamedTuple):
    """Where in the log a snapshot lies."""

    seq: int
    hash: bytes


class SnapshotFiles:
    """The snapshots of one journal."""

    def __init__(self, directory: Path, failpoint: Failpoints) -> None:
        self._directory = directory
        self._failpoint = failpoint

    def tidy(self) -> None:
        """Remove what a process left that was killed while writing."""
        for path in self._directory.glob("task_scheduler.snapshot-*.tmp"):
            path.unlink()

    def whole(self) -> list[tuple[Facts, Path]]:
        """Return the whole ones, newest first; the others are named in the service's log."""
        found = []
        for path in sorted(self._directory.glob("task_scheduler.snapshot-*"), reverse=True):
            try:
                found.append((_check(path), path))
            except (OSError, ValueError) as error:
                log.error("the snapshot %s is damaged and left out: %s", path, error)
        return found

    @property
    def oldest_seq(self) -> int:
        """The event of the oldest snapshot, when there are as many as are kept; else 0."""
        paths = sorted(self._directory.glob("task_scheduler.snapshot-*[0-9]"))
        return int(paths[0].name.rpartition("-")[2]) if len(paths) >= KEPT else 0

    def read(self, facts: Facts, path: Path, reader: Executor) -> Snapshot:
        """Return a whole one to be read."""
        return Snapshot(facts.seq, _parts(path, reader))

    async def write(self, facts: Facts, parts: AsyncIterator[bytes], writer: Executor) -> None:
        """Write a snapshot.

        Raises:
            StorageFailed: It is not there; the ones before still are.
        """
        loop = asyncio.get_running_loop()
        path = self._directory / f"task_scheduler.snapshot-{facts.seq:019d}"
        aside = path.with_name(path.name + ".tmp")
        try:
            self._failpoint("before_snapshot_write")
            with aside.open("wb") as file:
                digest = hashlib.sha256()
                pending, size_bytes = [_HEAD + _FACTS.pack(*facts)], 0
                async for part in parts:
                    pending += _LENGTH.pack(len(part)), part
                    size_bytes += len(part)
                    if size_bytes >= WRITE_BYTES:
                        await loop.run_in_executor(writer, _write, file, digest, pending)
                        pending, size_bytes = [], 0
                pending.append(_LENGTH.pack(0))
                await loop.run_in_executor(writer, _write, file, digest, pending)
                await loop.run_in_executor(writer, _finish, file, digest)
            await loop.run_in_executor(writer, self._publish, aside, path)
        except (OSError, StorageFailed) as error:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
            raise StorageFailed(f"the snapshot {path} was not written: {error}") from error

    def _publish(self, aside: Path, path: Path) -> None:
        self._failpoint("before_snapshot_rename")
        os.replace(aside, path)
        self._failpoint("after_snapshot_rename")
        sync_directory(self._directory)
        self._failpoint("after_snapshot_sync")
        for old in sorted(self._directory.glob("task_scheduler.snapshot-*[0-9]"))[:-KEPT]:
            old.unlink()


def _write(file: BinaryIO, digest: hashlib._Hash, pieces: Sequence[bytes]) -> None:
    data = b"".join(pieces)
    digest.update(data)
    file.write(data)


def _finish(file: BinaryIO, digest: hashlib._Hash) -> None:
    file.write(digest.digest())
    file.flush()
    os.fsync(file.fileno())


def _check(path: Path) -> Facts:
    """Return where a snapshot lies, if it is whole."""
    size_bytes = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        head = file.read(len(_HEAD) + _FACTS.size)
        if not head.startswith(_HEAD) or size_bytes < len(head) + _LENGTH.size + 32:
            raise ValueError("it is no snapshot")
        digest.update(head)
        left = size_bytes - len(head) - 32
        while left:
            data = file.read(min(left, WRITE_BYTES))
            if not data:
                raise ValueError("it is cut off")
            digest.update(data)
            left -= len(data)
        if file.read() != digest.digest():
            raise ValueError("its hash differs")
    return Facts(*_FACTS.unpack(head[len(_HEAD) :]))


async def _parts(path: Path, reader: Executor) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    parts = _read(path)
    while True:
        # Some at a time: a hop to another thread for each would cost more than the reading.
        some = await loop.run_in_executor(reader, lambda: list(islice(parts, 64)))
        if not some:
            return
        for part in some:
            yield part


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(len(_HEAD) + _FACTS.size)
        while length := _LENGTH.unpack(file.read(_LENGTH.size))[0]:
            yield file.read(length)
