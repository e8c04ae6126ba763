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
from tests.bench.machine import Meter
from tests.bench.workload import PAYLOAD, TYPES, Throughput

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


async def throughput(pids: dict[str, int], *, tasks: int, window: int) -> Throughput:
    """Submit `tasks` with at most `window` unfinished; first submit to last completion."""
    pids = dict(pids)
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{pids.pop('port')}")
    call = channel.stream_stream(
        skeleton.SUBMIT,
        request_serializer=task_scheduler_pb2.SubmitTasksRequest.SerializeToString,
        response_deserializer=task_scheduler_pb2.SubmitTasksResponse.FromString,
    )()
    meter = Meter(pids)
    meter.start()
    room = asyncio.Semaphore(window)
    outlet = skeleton.Outlet(
        lambda specs: task_scheduler_pb2.SubmitTasksRequest(tasks=specs), call.write
    )
    pump = asyncio.create_task(outlet.pump())
    started_s, own = time.perf_counter(), time.process_time()

    async def submit() -> None:
        for number in range(tasks):
            await room.acquire()
            payload = task_pb2.Payload(content_type="application/json", data=PAYLOAD)
            kind = TYPES[number % len(TYPES)]
            outlet.put([task_pb2.TaskSpec(type=kind, payload=payload, request_id=f"{number:010}")])

    submitting = asyncio.create_task(submit())
    done = 0
    while done < tasks:
        response = await call.read()
        for _ in response.task_ids:
            room.release()
        done += len(response.task_ids)
    seconds = time.perf_counter() - started_s
    cpu = meter.used() | {"client": time.process_time() - own}
    await submitting
    pump.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await pump
    call.cancel()
    await channel.close()
    return Throughput(tasks, seconds, cpu, meter.memory(), meter.foreign() - cpu["client"])


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])
