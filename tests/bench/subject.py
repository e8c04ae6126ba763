"""Runs the suite as separate processes with simulated agents, and measures it."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from podium.sdk.client import Client
from podium.sdk.settings import Settings
from services import suite
from tests.bench.machine import Meter
from tests.bench.workload import AGENTS, HOSTS, PAYLOAD, TYPES, WINDOW, Latency, Throughput

start_s = 60.0


@dataclass
class Subject:
    """A suite that runs with its fleet."""

    pids: dict[str, int]
    settings: Settings

    async def throughput(self, tasks: int, window: int = WINDOW) -> Throughput:
        """Submit `tasks` one by one, at most `window` unfinished; until all results are known."""
        async with Client(self.settings, inline=True) as client:
            await _settle(client)
            meter = Meter(self.pids)
            meter.start()
            began_s, own = time.perf_counter(), time.process_time()
            numbers = iter(range(tasks))

            async def submitter() -> None:
                for number in numbers:
                    handle = await client.submit(TYPES[number % len(TYPES)], PAYLOAD)
                    await handle.outcome()

            await asyncio.gather(*(submitter() for _ in range(window)))
            seconds = time.perf_counter() - began_s
            cpu = meter.used() | {"client": time.process_time() - own}
            foreign = max(0.0, meter.foreign() - cpu["client"])
            return Throughput(tasks, seconds, cpu, meter.memory(), foreign)

    async def latency(self, rate: float, seconds: float) -> Latency:
        """Offer `rate` tasks a second, whatever becomes of them; count from the due instant."""
        async with Client(self.settings, inline=True) as client:
            await _settle(client)
            meter = Meter(self.pids)
            end_to_end: list[float] = []
            assignment: list[float] = []

            async def one(number: int, due_ns: int) -> None:
                handle = await client.submit(TYPES[number % len(TYPES)], PAYLOAD)
                outcome = await handle.outcome()
                end_to_end.append((time.time_ns() - due_ns) / 1e6)
                assignment.append((int(outcome.payload().data) - due_ns) / 1e6)

            meter.start()
            own = time.process_time()
            began_s, began_ns = time.perf_counter(), time.time_ns()
            count = int(rate * seconds)
            running = []
            for number in range(count):
                due_s = number / rate
                wait_s = began_s + due_s - time.perf_counter()
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                # Late or not, it was due then: waiting for the loop counts.
                due_ns = began_ns + int(due_s * 1e9)
                running.append(asyncio.create_task(one(number, due_ns)))
            await asyncio.gather(*running)
            took = time.perf_counter() - began_s
            cpu = meter.used() | {"client": time.process_time() - own}
            return Latency(rate, count / took, end_to_end, assignment, cpu, took)


@asynccontextmanager
async def started(
    data_dir: Path, *, streams: int, environ: Mapping[str, str] | None = None
) -> AsyncIterator[Subject]:
    """Run all services and the fleet until the block ends.

    Args:
        data_dir: For the journal and the logs.
        streams: Agent streams over all hosts: as many as hosts, or as agents.
        environ: More settings for the services.
    """
    async with AsyncExitStack() as stack:
        quiet = {"PODIUM_LOG_LEVEL": "warning", **(environ or {})}
        running = await stack.enter_async_context(
            suite.started(data_dir=data_dir, ports="free", environ=quiet)
        )
        pids = running.pids
        for number in range(HOSTS):
            arguments = ["--prefix", f"h{number}", "--agents", str(AGENTS // HOSTS)]
            process = await asyncio.create_subprocess_exec(
                *[sys.executable, "-m", "tests.bench.host", *arguments],
                *["--streams", str(streams // HOSTS)],
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, **running.environ},
            )
            stack.push_async_callback(_end, process)
            assert process.stdout is not None
            async with asyncio.timeout(start_s):
                await process.stdout.readline()  # "ready"
            pids[f"host{number}"] = process.pid
        yield Subject(pids, Settings.from_environment(running.environ))


async def _settle(client: Client) -> None:
    # The first tasks pay for connections and for what is compiled on first use.
    handles = [await client.submit(TYPES[number % len(TYPES)], PAYLOAD) for number in range(64)]
    await asyncio.gather(*(handle.outcome() for handle in handles))


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(10):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
