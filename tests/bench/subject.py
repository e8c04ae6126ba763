"""Runs the suite as a setup says, with a fleet of the SDK's agents, and measures it."""

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
from tests.bench import client
from tests.bench.machine import Meter
from tests.bench.setups import Setup
from tests.bench.workload import AGENTS, HOSTS, WINDOW, Latency, Throughput

start_s = 60.0


@dataclass
class Subject:
    """A suite that runs with its fleet."""

    pids: dict[str, int]
    settings: Settings

    def client(self) -> Client:
        """Return a client whose gRPC runs on the loop of the bench."""
        return Client(self.settings, inline=True)

    async def throughput(self, tasks: int, window: int = WINDOW) -> Throughput:
        """Submit `tasks` one by one, at most `window` unfinished; until all results are known."""
        async with self.client() as submitter:
            await client.settle(submitter)
            meter = Meter(self.pids)
            with client.undisturbed():
                meter.start()
                began_s, own = time.perf_counter(), time.process_time()
                await client.closed(submitter, tasks, window)
            seconds = time.perf_counter() - began_s
            cpu = meter.used() | {"client": time.process_time() - own}
            foreign = max(0.0, meter.foreign() - cpu["client"])
            return Throughput(tasks, seconds, cpu, meter.memory(), foreign)

    async def latency(self, rate: float, seconds: float) -> Latency:
        """Offer `rate` tasks a second, or one at a time when it is 0."""
        async with self.client() as submitter:
            await client.settle(submitter)
            meter = Meter(self.pids)
            with client.undisturbed():
                meter.start()
                began_s, own = time.perf_counter(), time.process_time()
                if rate:
                    samples = client.Samples()
                    loop = client.OpenLoop(submitter, lambda number: (samples, None))
                    took_s = await loop.run(rate, seconds)
                else:
                    samples = await client.quiet(submitter, seconds)
                    took_s = time.perf_counter() - began_s
            cpu = meter.used() | {"client": time.process_time() - own}
            achieved = samples.offered / took_s
            foreign = max(0.0, meter.foreign() - cpu["client"])
            return Latency(
                rate, achieved, samples.end_to_end_ms, samples.assignment_ms, cpu, took_s, foreign
            )


@asynccontextmanager
async def started(data_dir: Path, setup: Setup) -> AsyncIterator[Subject]:
    """Run all services and the fleet until the block ends; `data_dir` takes journal and logs."""
    async with AsyncExitStack() as stack:
        if setup.together:
            running = suite.prepared(data_dir=data_dir, ports="free", environ=setup.environ)
            process = await _together(running)
            stack.push_async_callback(_end, process)
            for name in suite.SERVICES:
                running.processes[name] = process
            for name in suite.SERVICES:
                await running.until_ready(name)
            pids = {"services": process.pid}
        else:
            running = await stack.enter_async_context(
                suite.started(data_dir=data_dir, ports="free", environ=setup.environ)
            )
            pids = running.pids
        for number in range(HOSTS):
            arguments = ["--prefix", f"h{number}", "--agents", str(AGENTS // HOSTS)]
            arguments += ["--streams", str(setup.streams // HOSTS)]
            process = await _spawn("tests.bench.host", arguments, running.environ)
            stack.push_async_callback(_end, process)
            assert process.stdout is not None
            async with asyncio.timeout(start_s):
                await process.stdout.readline()  # "ready"
            pids[f"host{number}"] = process.pid
        yield Subject(pids, Settings.from_environment(running.environ))


async def _together(running: suite.Suite) -> asyncio.subprocess.Process:
    log = running.log_dir / "services.log"
    with log.open("ab") as file:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services"),
            stdout=file,
            stderr=file,
            env={**os.environ, **running.environ},
        )


async def _spawn(
    module: str, arguments: list[str], environ: Mapping[str, str]
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **environ},
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(20):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
