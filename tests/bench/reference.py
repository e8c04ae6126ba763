"""Runs the reference skeleton and measures it with the same workload as Podium."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio

from podium.v1 import task_pb2, task_scheduler_pb2
from tests.bench import skeleton
from tests.bench.client import PAUSE_S, Samples
from tests.bench.machine import Meter
from tests.bench.workload import PAYLOAD, TYPES, Latency, Throughput

start_s = 20.0


@asynccontextmanager
async def started(data_dir: Path, *, agents: int, streams: int) -> AsyncIterator[dict[str, int]]:
    """Run scheduler, router and two hosts; yields process ids and the port as "port"."""
    scheduler_port, router_port = _free_port(), _free_port()
    roles = {
        "scheduler": ["scheduler", "--port", scheduler_port, "--path", data_dir / "skeleton.db"],
        "router": ["router", "--port", router_port, "--peer", f"127.0.0.1:{scheduler_port}"],
    }
    for number in range(2):
        roles[f"host{number}"] = [
            *["host", "--peer", f"127.0.0.1:{router_port}"],
            *["--agents", agents // 2, "--streams", streams // 2],
        ]
    processes: dict[str, asyncio.subprocess.Process] = {}
    try:
        for name, arguments in roles.items():
            processes[name] = await asyncio.create_subprocess_exec(
                *[sys.executable, "-m", "tests.bench.skeleton", *map(str, arguments)],
                stdout=asyncio.subprocess.PIPE,
            )
            async with asyncio.timeout(start_s):
                await processes[name].stdout.readline()  # "ready"
        yield {name: process.pid for name, process in processes.items()} | {"port": scheduler_port}
    finally:
        for process in processes.values():
            process.kill()
        for process in processes.values():
            await process.wait()


class Submitter:
    """The client of the skeleton: everything at hand in one message, one callback a task."""

    def __init__(self, port: int) -> None:
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self._call = self._channel.stream_stream(
            skeleton.SUBMIT,
            request_serializer=task_scheduler_pb2.SubmitTasksRequest.SerializeToString,
            response_deserializer=task_scheduler_pb2.SubmitTasksResponse.FromString,
        )()
        self._outlet = skeleton.Outlet(
            lambda specs: task_scheduler_pb2.SubmitTasksRequest(tasks=specs), self._call.write
        )
        self._pump = asyncio.create_task(self._outlet.pump())

    def submit(self, number: int) -> None:
        """Send the task of a number."""
        payload = task_pb2.Payload(content_type="application/json", data=PAYLOAD)
        kind = TYPES[number % len(TYPES)]
        spec = task_pb2.TaskSpec(type=kind, payload=payload, request_id=f"{number:010}")
        self._outlet.put([spec])

    async def ended(self) -> list[tuple[int, int]]:
        """Return the tasks that have ended since: number, and when the agent had it (wall ns)."""
        response = await self._call.read()
        # `id:ns`: the skeleton's answer has room for texts only.
        pairs = [told.split(":") for told in response.task_ids]
        return [(int(number), int(began_ns)) for number, began_ns in pairs]

    async def close(self) -> None:
        """Give the connection back."""
        self._pump.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._pump
        self._call.cancel()
        await self._channel.close()


async def throughput(pids: dict[str, int], *, tasks: int, window: int) -> Throughput:
    """Submit `tasks` with at most `window` unfinished; first submit to last completion."""
    pids = dict(pids)
    submitter = Submitter(pids.pop("port"))
    meter = Meter(pids)
    meter.start()
    room = asyncio.Semaphore(window)
    started_s, own = time.perf_counter(), time.process_time()

    async def submit() -> None:
        for number in range(tasks):
            await room.acquire()
            submitter.submit(number)

    submitting = asyncio.create_task(submit())
    done = 0
    while done < tasks:
        for _ in await submitter.ended():
            room.release()
            done += 1
    seconds = time.perf_counter() - started_s
    cpu = meter.used() | {"client": time.process_time() - own}
    await submitting
    await submitter.close()
    foreign = max(0.0, meter.foreign() - cpu["client"])
    return Throughput(tasks, seconds, cpu, meter.memory(), foreign)


async def latency(pids: dict[str, int], rate: float, seconds: float) -> Latency:
    """Offer `rate` tasks a second, or one at a time when it is 0, as Podium's client does."""
    pids = dict(pids)
    submitter = Submitter(pids.pop("port"))
    meter = Meter(pids)
    meter.start()
    own = time.process_time()
    samples = Samples()
    began_s, began_ns = time.perf_counter(), time.time_ns()
    due_s: list[float] = []

    async def take() -> None:
        for number, at_ns in await submitter.ended():
            due = due_s[number]
            samples.end_to_end_ms.append((time.perf_counter() - began_s - due) * 1e3)
            samples.assignment_ms.append((at_ns - began_ns) / 1e6 - due * 1e3)

    async def collect(count: int) -> None:
        while len(samples.end_to_end_ms) < count:
            await take()

    if rate:
        count = int(rate * seconds)
        due_s += [number / rate for number in range(count)]
        collecting = asyncio.create_task(collect(count))
        for number in range(count):
            ahead_s = began_s + due_s[number] - time.perf_counter()
            if ahead_s > 0.0:
                await asyncio.sleep(ahead_s)
            submitter.submit(number)
        await collecting
    else:
        while (now_s := time.perf_counter() - began_s) < seconds:
            due_s.append(now_s)
            submitter.submit(len(due_s) - 1)
            await take()
            await asyncio.sleep(PAUSE_S)
    took_s = time.perf_counter() - began_s
    cpu = meter.used() | {"client": time.process_time() - own}
    await submitter.close()
    achieved = len(due_s) / took_s
    foreign = max(0.0, meter.foreign() - cpu["client"])
    return Latency(
        rate, achieved, samples.end_to_end_ms, samples.assignment_ms, cpu, took_s, foreign
    )


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])
