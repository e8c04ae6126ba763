"""Whether anything grows: throughput, memory and the cost of reading the log over many tasks."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from podium.sdk.client import Client
from tests.bench import client as submitting
from tests.bench import subject
from tests.bench.machine import Meter, memory_mb
from tests.bench.rows import Row
from tests.bench.setups import Setup
from tests.bench.workload import HOSTS, WINDOW

TASKS = 1_000_000
SLICES = 10
READS = 5
READ_BACK = 0.1
"""How far before the end of a slice reading begins, as a share of the slice."""


async def measure(full: bool, console: Console) -> tuple[dict[str, Any], list[Row]]:
    """Run tasks in slices of equal size and compare the last with the first."""
    scale = 1.0 if full else 0.05
    size = int(TASKS * scale) // SLICES
    # What memory is bounded by shrinks with the run: else the bounds would not be reached.
    setup = Setup(
        "flat",
        HOSTS,
        limits=(
            ("PODIUM_ENDED_TASKS_MAX", str(size)),
            # Ids that the SDK made are kept apart from those that callers choose.
            ("PODIUM_REQUEST_IDS_MAX", str(2 * size)),
            ("PODIUM_RETRY_IDS_MAX", str(2 * size)),
            ("PODIUM_TAIL_BYTES_MAX", str(int((32 << 20) * scale))),
        ),
    )
    console.print(f"  {setup.settings}; {SLICES} slices of {size:,} tasks")
    slices: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        async with subject.started(Path(folder), setup) as running, running.client() as client:
            await submitting.closed(client, min(size, 5_000), WINDOW)  # warm
            for number in range(SLICES):
                slices.append(await _slice(client, size, running))
                console.print(f"  {(number + 1) * size:,}: {_said(slices[-1])}")
    figures = {"settings": setup.settings, "tasks_of_a_slice": size, "slices": slices}
    return figures, goals(slices, size)


async def _slice(client: Client, size: int, running: subject.Subject) -> dict[str, float]:
    back = int(size * READ_BACK)
    meter, own_s = Meter(running.pids), time.process_time()
    meter.start()
    began_s = time.perf_counter()
    await submitting.closed(client, size - back, WINDOW)
    mark = await client.submit_soon(submitting.spec_of(0))
    await submitting.closed(client, back - 1, WINDOW)
    await mark.outcome()
    took_s = time.perf_counter() - began_s
    cpu = meter.used() | {"client": time.process_time() - own_s}
    figures = {"tasks_per_s": size / took_s, "us_per_task": sum(cpu.values()) / size * 1e6}
    # Of them it depends how quick a slice was that took no more CPU than the others.
    figures["foreign_cores"] = max(0.0, meter.foreign() - cpu["client"]) / took_s
    figures |= {f"{name}_us": round(used_s / size * 1e6, 1) for name, used_s in cpu.items()}
    for name, pid in running.pids.items():
        figures[f"{name}_mb"] = round(memory_mb(pid), 1)
    reads = [await _read(client, mark.cursor, 5 * back) for _ in range(READS)]
    figures["read_us_per_event"] = statistics.median(reads)
    return figures


def _said(one: dict[str, float]) -> str:
    return (
        f"{one['tasks_per_s']:,.0f}/s, {one['us_per_task']:.0f} µs of CPU a task, "
        f"{one['task_scheduler_us']:.0f} of them the scheduler's with "
        f"{one['task_scheduler_mb']:.0f} MB; others took {one['foreign_cores']:.2f} cores"
    )


async def _read(client: Client, cursor: str, count: int) -> float:
    """Return the microseconds that each of the next `count` events after `cursor` takes."""
    began_s, seen = time.perf_counter(), 0
    events = client.watch(cursor=cursor)
    async for _ in events:
        seen += 1
        if seen == count:
            break
    took_s = time.perf_counter() - began_s
    await events.aclose()  # type: ignore[attr-defined]  # a generator
    return took_s / count * 1e6


def goals(slices: list[dict[str, float]], size: int) -> list[Row]:
    """Return what is wanted of the slices."""
    first, last = slices[0], slices[-1]
    services = [name for name in first if name.endswith("_mb")]
    # The bounds of what is kept are reached after two slices; what comes then must not add up.
    settled = slices[len(slices) // 2]
    # Of each process alone: among all of them the growth of one would be lost.
    grown = {name: last[name] / settled[name] for name in services if settled[name] > 0}
    most = max(grown, key=lambda name: grown[name])
    rate = last["tasks_per_s"] / first["tasks_per_s"]
    read = last["read_us_per_event"] / first["read_us_per_event"]
    of = f"last {size:,} tasks to the first"
    cpu = last["us_per_task"] / first["us_per_task"]
    half = f"at the end to half way: {most.removesuffix('_mb')}, {settled[most]:.0f} MB then"
    return [
        Row("flat: throughput", round(rate, 3), least=0.95, note=of),
        Row("flat: CPU of a task, all processes", round(cpu, 3), note=of),
        Row(
            "flat: memory of the process that grows most",
            round(grown[most], 3),
            most=1.05,
            note=half,
        ),
        Row("flat: time to read an event of the log", round(read, 3), most=1.1, note=of),
    ]
