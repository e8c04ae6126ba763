"""A PostgreSQL whose disk fails to sync, or is slow to, when a test says so."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.postgres import Server, server

SOURCE = Path(__file__).with_suffix("").with_name("sync_fault.c")
LIBRARY = "sync_fault.so"


class Disk:
    """What the syncs of one server do."""

    def __init__(self, started: Server, order: Path) -> None:
        self.server = started
        self._order = order

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def panics(self) -> int:
        """Times that the server ended itself, since it could not know what is on its disk."""
        return self.server.said().count("PANIC:")

    def fail_once(self) -> None:
        """Lets the next sync fail (EIO)."""
        self._say("fail")

    def slow(self, wait_ms: int) -> None:
        """Lets every sync take so much longer, until `heal`."""
        self._say(f"slow {wait_ms}")

    def heal(self) -> None:
        self._order.unlink(missing_ok=True)

    def _say(self, order: str) -> None:
        # Whole or not there: the server looks at any moment.
        aside = self._order.with_suffix(".new")
        aside.write_text(order)
        aside.replace(self._order)


@contextmanager
def faulty(place: Path | None = None) -> Iterator[Disk]:
    """Gives a server of one's own on such a disk."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to make what lets syncs fail")
    with server(place) as started:
        library, order = started.directory / LIBRARY, started.directory / "sync_fault"
        arguments = [compiler, "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
        subprocess.run(arguments, check=True)
        started.stop()
        started.environ = {"LD_PRELOAD": str(library), "PODIUM_SYNC_FAULT": str(order)}
        started.start("-c", "wal_sync_method=fdatasync")
        yield Disk(started, order)
