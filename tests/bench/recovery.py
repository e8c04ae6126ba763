"""What a death costs: from the kill of a scheduler to the first acknowledged submit after it."""

from __future__ import annotations

import asyncio
import signal
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple

import grpc.aio
import uvloop

from podium.v1.task_pb2 import Payload, TaskSpec
from services.kernel.options import dial
from services.kernel.rpc import from_rpc_error
from tests.bench.rows import Row
from tests.bench.workload import percentile
from tests.support.ports import free_port
from tests.support.postgres import server
from tests.support.processes import Process, Processes
from tests.task_scheduler.serving import Served

BATCH_LEN = 1_000
PAYLOAD_BYTES = 200
ASKED_EVERY_S = 0.005
WITHIN_S = 60.0
CALLERS = 64
SECONDS = 5.0
OPEN_TASKS = 100_000
TAKEOVER_TASKS = 10_000
DEATHS = 3
RECOVERY_S_MAX = 2.0
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
        self._started: list[Process] = []

    @property
    def process(self) -> Process:
        """The newest process."""
        return self._started[-1]

    def start(self) -> None:
        """Start it; it takes calls some time later."""
        arguments = ("-m", "services.task_scheduler")
        self._started.append(self._processes.python(*arguments, environ=self._environ))

    def kill(self) -> None:
        """End it at once, if it has not ended."""
        self.process.kill()

    def said(self, pattern: str) -> str:
        """Return what it said."""
        return self.process.wait_for(pattern)[1]

    async def ready(self) -> None:
        """Return when it answers."""
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


async def recovery(
    processes: Processes, environ: Mapping[str, str], open_tasks: int
) -> list[float]:
    """Kill a scheduler that holds so many tasks and start it again; seconds to the first answer."""
    instance = Instance(processes, environ)
    instance.start()
    await instance.ready()
    async with instance.served() as served:
        await fill(served, open_tasks)
    found = []
    for _ in range(DEATHS):
        began = time.perf_counter()
        instance.kill()
        instance.start()
        found.append(await first_acknowledged(instance.port) - began)
        said = instance.said(r"recovered (\d+) open tasks")
        assert int(said) >= open_tasks, f"only {said} tasks came back"
    instance.kill()
    return found


class Takeover(NamedTuple):
    """Seconds from a signal to the owner until the other replica has acknowledged a submit."""

    killed_s: float
    stopped_s: float


async def takeover(processes: Processes, journal: Mapping[str, str], open_tasks: int) -> Takeover:
    """End the owner of two replicas, once by force and once by request."""
    environ = {**journal, "PODIUM_OWNER_LEASE_S": str(OWNER_LEASE_S)}
    owner, other = Instance(processes, environ), Instance(processes, environ)
    found = []
    for number in (signal.SIGKILL, signal.SIGTERM):
        owner.start()
        await owner.ready()
        other.start()
        await other.ready()
        async with owner.served() as served:
            await fill(served, open_tasks)
        began = time.perf_counter()
        owner.process.signal(number)
        found.append(await first_acknowledged(other.port) - began)
        for each in (owner, other):
            each.kill()
        # What is left of the lease of the one that was killed.
        await asyncio.sleep(OWNER_LEASE_S)
    return Takeover(*found)


class Submitting(NamedTuple):
    """Submits of one task each, by callers that wait for each answer."""

    per_s: float
    p50_ms: float
    p99_ms: float


async def submitting(
    processes: Processes, environ: Mapping[str, str], seconds: float
) -> Submitting:
    """Submit from so many callers for a while."""
    instance = Instance(processes, environ)
    instance.start()
    await instance.ready()
    took_ms: list[float] = []
    async with instance.served() as served:
        until = time.perf_counter() + seconds

        async def submit() -> None:
            while (began := time.perf_counter()) < until:
                await served.submit(task())
                took_ms.append((time.perf_counter() - began) * 1000)

        await asyncio.gather(*(submit() for _ in range(CALLERS)))
    instance.kill()
    return Submitting(len(took_ms) / seconds, percentile(took_ms, 0.5), percentile(took_ms, 0.99))


def in_sqlite(place: Path) -> dict[str, str]:
    """Return the settings of a journal in a file."""
    return {"PODIUM_DATA_DIR": str(place / "data")}


def in_postgres(url: str) -> dict[str, str]:
    """Return the settings of a journal in a database."""
    return {
        "PODIUM_JOURNAL": "postgres",
        "PODIUM_POSTGRES_URL": url,
        "PODIUM_PARTITIONS": "1",
    }


@contextmanager
def journals() -> Iterator[tuple[Processes, dict[str, dict[str, str]]]]:
    """Give the settings of both journals, new and on the same disk, and what starts processes."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        # The database does not run as root and must be able to go there.
        place.chmod(0o755)
        with Processes(place / "logs") as processes, server(place) as started:
            kinds = {"SQLite": in_sqlite(place), "PostgreSQL": in_postgres(started.url)}
            yield processes, kinds


def loads(scale: float) -> Sequence[Row]:
    """Measure both journals under the same load."""
    rows = []
    with journals() as (processes, kinds):
        for kind, environ in kinds.items():
            found = uvloop.run(submitting(processes, environ, max(1.0, SECONDS * scale)))
            rows += [
                Row(f"{kind}: submits", found.per_s, "/s", note=f"{CALLERS} callers that wait"),
                Row(f"{kind}: submit to durable answer, p50", found.p50_ms, "ms"),
                Row(f"{kind}: the same, p99", found.p99_ms, "ms"),
            ]
    return rows


def recoveries(scale: float) -> Sequence[Row]:
    """Measure deaths in the middle of a load, with what came after the last snapshot to replay."""
    rows = []
    open_tasks = max(BATCH_LEN, round(OPEN_TASKS * scale))
    with journals() as (processes, kinds):
        for kind, environ in kinds.items():
            each_s = uvloop.run(recovery(processes, environ, open_tasks))
            what = f"{kind}: kill -9 to first acknowledged submit, {open_tasks:,} open"
            note = f"of {', '.join(f'{one_s:.2f}' for one_s in each_s)}"
            rows.append(Row(what, statistics.median(each_s), "s", most=RECOVERY_S_MAX, note=note))
    return rows


def takeovers(scale: float) -> Sequence[Row]:
    """Measure how long two replicas are without an owner."""
    open_tasks = max(BATCH_LEN, round(TAKEOVER_TASKS * scale))
    with journals() as (processes, kinds):
        after = uvloop.run(takeover(processes, kinds["PostgreSQL"], open_tasks))
    note = f"owner's lease of {OWNER_LEASE_S:g} s, {open_tasks:,} open"
    return [
        Row(
            "kill -9 of the owner to the other's first acknowledged submit",
            after.killed_s,
            "s",
            note=note,
        ),
        Row("the same after SIGTERM", after.stopped_s, "s", note=f"{2 * open_tasks:,} open"),
    ]
