"""The suite as separate processes on one machine: started, watched, stopped in order.

This is what `python -m services --processes`, the main job, the bench and the system tests run.
A service that dies is started again, as a cluster would do it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import runpy
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import grpc.aio
from grpc_health.v1 import health_pb2

from services.kernel.options import dial

SERVICES = ("task_scheduler", "agent_registry", "ml_router", "analytics", "routing", "edge")
"""Every service, those first that others hold streams to: in one process they end in the opposite
order, and none waits for a stream of one that goes on."""

DEFAULT_PORTS = {
    "edge": 7700,
    "task_scheduler": 7701,
    "agent_registry": 7702,
    "routing": 7703,
    "ml_router": 7704,
    "analytics": 7705,
}

start_s = 30.0
stop_s = 25.0
poll_s = 0.05
restart_pause_s = 0.5
log_tail_lines = 12

PR_SET_PDEATHSIG = 1  # linux/prctl.h

Ports = Literal["default", "free"] | Mapping[str, int]
Report = Callable[[str, str], None]


class SuiteFailed(Exception):
    """A service did not come up; the message says which, why and where its log is."""


@dataclass
class Suite:
    """Services that run as children of this process."""

    ports: dict[str, int]
    environ: dict[str, str]
    log_dir: Path
    report: Report
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    _watchers: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    @property
    def addresses(self) -> dict[str, str]:
        """host:port of each service."""
        return {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}

    @property
    def pids(self) -> dict[str, int]:
        """Process id of each service that runs."""
        return {name: process.pid for name, process in self.processes.items()}

    @property
    def dashboard(self) -> str:
        """Where a browser finds the dashboard."""
        return f"http://127.0.0.1:{self.ports['edge']}/" if "edge" in self.ports else ""

    async def start(self, name: str) -> None:
        """Start one service; `until_ready` waits for it."""
        log = (self.log_dir / f"{name}.log").open("ab")
        with log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "services.suite",
                name,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environ},
                start_new_session=True,  # Ctrl-C reaches the suite, which stops in order
            )
        self.processes[name] = process
        self._watchers[name] = asyncio.create_task(self._watch(name, process))

    async def until_ready(self, name: str) -> None:
        """Wait until a service can do its work.

        Raises:
            SuiteFailed: It ended, or was not ready within `start_s`.
        """
        check = _http_ready if name == "edge" else _grpc_ready
        try:
            async with asyncio.timeout(start_s):
                while not await check(self.addresses[name]):
                    process = self.processes[name]
                    if process.returncode is not None:
                        raise SuiteFailed(self._why(name, f"exited with {process.returncode}"))
                    await asyncio.sleep(poll_s)
        except TimeoutError:
            raise SuiteFailed(self._why(name, f"was not ready after {start_s:.0f} s")) from None
        self.report(name, "ready")

    async def restart(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """End a service by a signal and start it again."""
        await self.end(name, how)
        await self.start(name)
        await self.until_ready(name)

    async def end(self, name: str, how: signal.Signals = signal.SIGTERM) -> int:
        """End a service by a signal and return its exit code; it stays down."""
        self._watchers.pop(name).cancel()
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(how)
        try:
            async with asyncio.timeout(stop_s):
                code = await process.wait()
        except TimeoutError:
            process.kill()
            code = await process.wait()
        self.report(name, "stopped")
        return code

    async def stop(self) -> None:
        """End all services: those that bring work first, the one that keeps it last."""
        for group in (("edge",), ("routing",), ("ml_router", "analytics"), SERVICES):
            present = [name for name in group if name in self.processes]
            await asyncio.gather(*(self.end(name) for name in present))

    async def _watch(self, name: str, process: asyncio.subprocess.Process) -> None:
        """Start a service again when it ends by itself after it was once up."""
        code = await process.wait()
        if name not in self.restarts:
            return  # never came up: `until_ready` tells
        self.restarts[name] += 1
        self.report(name, f"ended with {code}, starts again")
        await asyncio.sleep(restart_pause_s)
        await self.start(name)

    def _why(self, name: str, what: str) -> str:
        path = self.log_dir / f"{name}.log"
        tail = path.read_text(errors="replace").splitlines()[-log_tail_lines:]
        return "\n  ".join([f"{name} {what}. Its log, {path}, ends with:", *tail])


@asynccontextmanager
async def started(
    *,
    data_dir: Path,
    ports: Ports = "default",
    environ: Mapping[str, str] | None = None,
    services: Sequence[str] = SERVICES,
    report: Report | None = None,
) -> AsyncIterator[Suite]:
    """Run services as separate processes until the block ends.

    Args:
        data_dir: Where they keep what must last, and their logs.
        ports: The documented ones, which `PODIUM_<SERVICE>_PORT` changes, any that are free, or a
            given one for each service.
        environ: More settings for them, `PODIUM_*`.
        services: Which.
        report: Told about each service: its name and what happened.

    Raises:
        SuiteFailed: One of them did not come up; the others are stopped again.
    """
    suite = prepared(data_dir=data_dir, ports=ports, environ=environ, services=services)
    suite.report = report or _unheard
    try:
        for name in services:
            await suite.start(name)
        try:
            await asyncio.gather(*(suite.until_ready(name) for name in services))
        except SuiteFailed:
            suite.report = _unheard  # the failure is the news, not what stops because of it
            raise
        suite.restarts = dict.fromkeys(services, 0)
        yield suite
    finally:
        await suite.stop()


def prepared(
    *,
    data_dir: Path,
    ports: Ports = "default",
    environ: Mapping[str, str] | None = None,
    services: Sequence[str] = SERVICES,
) -> Suite:
    """Return a suite of which nothing runs yet: ports chosen, settings made."""
    log_dir = data_dir / "logs"
    log_dir.mkdir(parents=True, exist_ok=True)
    if ports == "default":
        numbers = chosen_ports(os.environ)
    else:
        numbers = _free_ports(services) if ports == "free" else dict(ports)
    settings = {"PODIUM_DATA_DIR": str(data_dir)}
    for name, port in numbers.items():
        settings[f"PODIUM_{name.upper()}_PORT"] = str(port)
        settings[f"PODIUM_{name.upper()}_ADDRESS"] = f"127.0.0.1:{port}"
    if ports != "default":
        settings["PODIUM_METRICS_PORT_OFFSET"] = "0"
    settings.update(environ or {})
    return Suite(numbers, settings, log_dir, _unheard)


def chosen_ports(environ: Mapping[str, str]) -> dict[str, int]:
    """Return the port of each service: what `PODIUM_<SERVICE>_PORT` says, else the documented."""
    numbers = dict(DEFAULT_PORTS)
    for name in numbers:
        text = environ.get(f"PODIUM_{name.upper()}_PORT", "").strip()
        if text.isdecimal() and int(text):  # peers must know it: 0, any, would leave them behind
            numbers[name] = int(text)
    return numbers


def _unheard(name: str, what: str) -> None:
    """Tells nobody."""


def _free_ports(services: Sequence[str]) -> dict[str, int]:
    # All are held open until the last is chosen, else the same one may come twice.
    with contextlib.ExitStack() as stack:
        numbers = {}
        for name in services:
            held = stack.enter_context(socket.socket())
            held.bind(("127.0.0.1", 0))
            numbers[name] = held.getsockname()[1]
        return numbers


async def _grpc_ready(address: str) -> bool:
    channel = dial(address)
    try:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        answer = await check(health_pb2.HealthCheckRequest(service="readiness"), timeout=1)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
    except grpc.aio.AioRpcError:
        return False
    finally:
        await channel.close()


async def _http_ready(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    try:
        writer.write(f"GET /readyz HTTP/1.0\r\nHost: {address}\r\n\r\n".encode())
        return b" 200 " in await reader.readline()
    except OSError:
        return False
    finally:
        writer.close()


def _become(name: str) -> None:
    """Run a service in this process, as a child that does not outlive the suite.

    A killed supervisor must not leave services behind that hold its ports and files. The child
    asks for that itself: code between fork and exec in a parent with gRPC threads can crash.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    sys.argv = [f"services.{name}"]
    runpy.run_module(f"services.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _become(sys.argv[1])
