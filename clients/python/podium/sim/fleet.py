"""A whole experiment: hosts of simulated agents as processes, load, and what was measured."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson

from podium.sdk.client import Client
from podium.sdk.errors import PodiumError
from podium.sdk.settings import Settings, setting_of
from podium.sim.crew import Plan
from podium.sim.load import Load, Tally, percentiles
from podium.v1 import event_pb2

READY_S_MAX = 30.0
STOP_S_MAX = 15.0
HURRY_S_MAX = 2.0
"""For hosts of an experiment that was broken off: nobody asks any more what they did."""
DRAIN_S_MAX = 60.0
READ_S_MAX = 60.0


@dataclass(frozen=True)
class Snapshot:
    """How it goes."""

    elapsed_s: float
    # Completed tasks a second since the last snapshot.
    rate: float
    submitted_count: int
    completed_count: int
    failed_count: int
    refused_count: int
    open_count: int
    # 50th, 95th and 99th percentile from due to result, since the last snapshot.
    latencies_s: tuple[float, ...]


@dataclass(frozen=True)
class Report:
    """How it went."""

    agents: int
    hosts: int
    target_rate: float
    duration_s: float
    submitted: int
    completed: int
    failed: int
    refused: int
    unfinished: int
    throughput: float
    latency_p50_ms: float
    latency_p95_ms: float
    latency_p99_ms: float
    latency_max_ms: float
    # From queued until an agent took it, of each attempt at the completed tasks; absent when the
    # log cannot be read.
    assignment_p50_ms: float | None
    assignment_p99_ms: float | None
    refusals: dict[str, int]
    hosts_said: list[dict[str, int]]


@asynccontextmanager
async def hosting(
    plan: Plan, host_count: int, settings: Settings, *, own_streams: bool = False
) -> AsyncIterator[list[dict[str, int]]]:
    """Runs the agents of a plan in processes; yields a list that ends up with their figures.

    Raises:
        Unavailable: the agents got no session in time, or a host ended.
    """
    figures: list[dict[str, int]] = []
    hosts: list[asyncio.subprocess.Process] = []
    stop_s_max = HURRY_S_MAX
    try:
        for first, count in plan.shares(host_count):
            hosts.append(await _start(plan, first, count, settings, own_streams=own_streams))
        said = await asyncio.gather(
            *(_ready(host, settings) for host in hosts), return_exceptions=True
        )
        for error in filter(None, said):
            raise error
        yield figures
        stop_s_max = STOP_S_MAX
    finally:
        figures += await asyncio.gather(*(_stop(host, stop_s_max) for host in hosts))


async def _start(
    plan: Plan, first: int, count: int, settings: Settings, *, own_streams: bool
) -> asyncio.subprocess.Process:
    behaviour = plan.behaviour
    options = {
        "agents": count,
        "first": first,
        "prefix": plan.prefix,
        "capacity": plan.capacity,
        "profile": plan.profile,
        "types": ",".join(plan.types),
        "seed": plan.seed,
        "failure-rate": behaviour.failure_rate,
        "never-ack-rate": behaviour.never_ack_rate,
        "disconnect-every": behaviour.disconnect_every_s,
        "freeze-every": behaviour.freeze_every_s,
        "freeze": behaviour.freeze_s,
    }
    arguments = [f"--{name}={value}" for name, value in options.items()]
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "podium.sim",
        "--owned",
        *arguments,
        *(["--own-streams"] if own_streams else []),
        env={
            **os.environ,
            # They import what this process imports, installed or not.
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            setting_of("routing"): settings.routing,
            setting_of("analytics"): settings.analytics,
            "PODIUM_OTLP_ENDPOINT": settings.otlp_endpoint,
        },
        stdin=asyncio.subprocess.PIPE,  # which ends when we do, however that comes
        stdout=asyncio.subprocess.PIPE,
        # Ctrl-C is for us: we stop the hosts in order.
        start_new_session=True,
    )


async def _ready(host: asyncio.subprocess.Process, settings: Settings) -> None:
    assert host.stdout is not None
    try:
        async with asyncio.timeout(READY_S_MAX):
            line = await host.stdout.readline()
    except TimeoutError:
        line = b""
    if line.strip() != b"ready":
        raise settings.peer("routing").unreachable()


async def _stop(host: asyncio.subprocess.Process, stop_s_max: float) -> dict[str, int]:
    assert host.stdout is not None
    with contextlib.suppress(ProcessLookupError):
        host.terminate()
    try:
        async with asyncio.timeout(stop_s_max):
            said = await host.stdout.read()
            await host.wait()
    except TimeoutError:
        host.kill()
        await host.wait()
        return {}
    lines = said.splitlines()
    figures: dict[str, int] = orjson.loads(lines[-1]) if lines and lines[-1][:1] == b"{" else {}
    return figures


async def experiment(
    plan: Plan,
    *,
    settings: Settings,
    rate: float,
    duration_s: float,
    host_count: int = 2,
    own_streams: bool = False,
    interval_s: float = 0.5,
    watch: Callable[[Snapshot], None] = lambda snapshot: None,
) -> Report:
    """Runs a fleet under load and returns what was measured.

    Args:
        plan: the fleet.
        settings: where the suite is.
        rate: tasks a second.
        duration_s: how long tasks are submitted.
        host_count: processes that host the agents.
        own_streams: a stream for each agent instead of one for each host.
        interval_s: between snapshots.
        watch: is given snapshots.

    Raises:
        Unavailable: the suite cannot be reached.
    """
    hosted = hosting(plan, host_count, settings, own_streams=own_streams)
    async with Client(settings, inline=True) as client, hosted as figures:
        load = Load(client, rate=rate, types=plan.types, seed=plan.seed)
        start_s = time.perf_counter()
        watching = asyncio.create_task(_snapshots(load.tally, start_s, interval_s, watch))
        try:
            await load.run(duration_s)
            await load.drained(DRAIN_S_MAX)
            elapsed_s = time.perf_counter() - start_s
            assignment = await assignment_ms(client, load.tally)
        finally:
            watching.cancel()
    return _report(plan, load.tally, rate, elapsed_s, assignment, figures)


async def _snapshots(
    tally: Tally, start_s: float, interval_s: float, watch: Callable[[Snapshot], None]
) -> None:
    seen, last_s = 0, time.perf_counter()
    while True:
        await asyncio.sleep(interval_s)
        now_s = time.perf_counter()
        recent = tally.latencies_s[seen:]
        seen = len(tally.latencies_s)
        watch(
            Snapshot(
                elapsed_s=now_s - start_s,
                rate=len(recent) / (now_s - last_s),
                submitted_count=tally.submitted_count,
                completed_count=tally.completed_count,
                failed_count=tally.failed_count,
                refused_count=tally.refused_count,
                open_count=tally.open_count,
                latencies_s=tuple(percentiles(recent)),
            )
        )
        last_s = now_s


async def assignment_ms(client: Client, tally: Tally) -> tuple[float, float] | None:
    """Returns the 50th and 99th percentile of these tasks alone, whatever else the suite does.

    Read from the log behind the load, so that the reading does not slow down what it measures.
    """
    left, taken_ms = set(tally.completed_ids), array("d")
    started = client.watch(types=[event_pb2.Event.TYPE_STARTED], cursor=tally.cursor)
    try:
        async with asyncio.timeout(READ_S_MAX):
            while left:
                event = await anext(started)
                if event.task_id in tally.completed_ids:
                    taken_ms.append(event.started.assignment_latency.ToNanoseconds() / 1e6)
                    left.discard(event.task_id)
    except (PodiumError, TimeoutError):
        return None
    finally:
        await started.aclose()
    p50, p99 = percentiles(taken_ms, (0.5, 0.99))
    return (p50, p99) if taken_ms else None


def _report(
    plan: Plan,
    tally: Tally,
    rate: float,
    elapsed_s: float,
    assignment: tuple[float, float] | None,
    figures: list[dict[str, int]],
) -> Report:
    p50, p95, p99, most = percentiles(tally.latencies_s, (0.5, 0.95, 0.99, 1.0))
    return Report(
        agents=plan.agent_count,
        hosts=len(figures),
        target_rate=rate,
        duration_s=round(elapsed_s, 3),
        submitted=tally.submitted_count,
        completed=tally.completed_count,
        failed=tally.failed_count,
        refused=tally.refused_count,
        unfinished=tally.open_count,
        throughput=round(tally.completed_count / elapsed_s, 1),
        latency_p50_ms=round(p50 * 1e3, 2),
        latency_p95_ms=round(p95 * 1e3, 2),
        latency_p99_ms=round(p99 * 1e3, 2),
        latency_max_ms=round(most * 1e3, 2),
        assignment_p50_ms=round(assignment[0], 2) if assignment else None,
        assignment_p99_ms=round(assignment[1], 2) if assignment else None,
        refusals=tally.refusals,
        hosts_said=figures,
    )
