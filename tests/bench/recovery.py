"""What a death costs: from the kill of a scheduler to the first submit that is acknowledged again."""

from __future__ import annotations

import asyncio
import signal
import statistics
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple

import grpc.aio

from podium.v1.task_pb2 import Payload, TaskSpec
from services.kernel.options import dial
from services.kernel.rpc import from_rpc_error
from tests.support.ports import free_port
from tests.support.processes import Process, Processes
from tests.task_scheduler.serving import Served

BATCH_LEN = 1_000
PAYLOAD_BYTES = 200
ASKED_EVERY_S = 0.005
WITHIN_S = 60.0
OWNER_LEASE_S = 2.0
"""Of the replicas: a takeover after a kill waits for what is left of it."""


class Instance:
    """One scheduler on its port; a later one on the same port takes its place."""

    def __init__(self, processes: Processes, environ: Mapping[str, str]) -> None:
        self._processes = processes
        self.port = free_port()
        self._environ = {
            "PODIUM_TASK_SCHEDULER_PORT": str(self.port),
            "PODIUM_METRICS_PORT_OFFSET": "0",
            "PODIUM_OTLP_ENDPOINT": "off",
            **environ,
        }
        self.process: Process | None = None

    def start(self) -> Process:
        """Start it; it takes calls some time later."""
        self.process = self._processes.python(
            "-m", "services.task_scheduler", environ=self._environ
        )
        return self.process

    async def ready(self) -> None:
        """Return when it answers as the others do."""
        assert self.process is not None
        await asyncio.to_thread(self.process.wait_for, r"task_scheduler is ready", WITHIN_S)

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Served]:
        """Give a stub for it."""
        async with dial(f"127.0.0.1:{self.port}") as channel:
            yield Served(channel, None)


def task() -> TaskSpec:
    """Return a task of a usual size, whose kind nobody serves."""
    return TaskSpec(
        type="bench",
        request_id=token_hex(16),
        payload=Payload(content_type="text/plain", data=b"x" * PAYLOAD_BYTES),
    )


async def fill(served: Served, count: int) -> float:
    """Submit tasks in batches; return the seconds it took."""
    began = time.perf_counter()
    for _ in range(count // BATCH_LEN):
        await served.submit(*(task() for _ in range(BATCH_LEN)))
    return time.perf_counter() - began


async def first_acknowledged(port: int) -> float:
    """Submit one task until it is acknowledged; return the time of that.

    Raises:
        TimeoutError: It never was.
    """
    spec = task()
    async with asyncio.timeout(WITHIN_S):
        while True:
            # A channel of its own each time: one that has failed waits before it dials again.
            async with dial(f"127.0.0.1:{port}") as channel:
                try:
                    await Served(channel, None).submit(spec)
                    return time.perf_counter()
                except grpc.aio.AioRpcError as error:
                    if from_rpc_error(error).code not in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                        raise
            await asyncio.sleep(ASKED_EVERY_S)


class Recovered(NamedTuple):
    """One death and what came after it."""

    seconds: float
    said: str
    """What the new process said of its recovery."""


async def recovery(
    processes: Processes, environ: Mapping[str, str], open_tasks: int, repeats: int
) -> list[Recovered]:
    """Kill a scheduler that holds so many tasks, and start it again, several times."""
    instance = Instance(processes, environ)
    instance.start()
    await instance.ready()
    async with instance.served() as served:
        await fill(served, open_tasks)
    found = []
    for _ in range(repeats):
        assert instance.process is not None
        began = time.perf_counter()
        instance.process.signal(signal.SIGKILL)
        instance.process.wait()
        instance.start()
        seconds = await first_acknowledged(instance.port) - began
        said = instance.process.wait_for(r"recovered (.*)")[1]
        found.append(Recovered(seconds, said))
    instance.process.kill()
    return found
