"""`make bench-agents`: what sessions cost a router, and how soon a fleet recovers from deaths.

Agents are processes of their own: many small ones on connections of their own, and the SDK's.
"""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import uvloop

from podium.v1.task_pb2 import RetryPolicy
from tests.bench import machine, parts
from tests.bench.herd import Calm
from tests.bench.rows import Row
from tests.bench.workload import percentile
from tests.support.processes import Process
from tests.support.waiting import eventually
from tests.system.stage import Stage, staged

IDLE_SESSIONS = 5_000
WARM_SESSIONS = 200
"""Before the first reading: what is paid once is no part of a session."""
WATCHED_S = 60.0
"""Two heartbeats and two probes of each session."""
RETURNING = 1_000
CROWDS = 3
LEASE_S = 10.0
TOGETHER = 37
"""Agents that share a connection where hosts run many."""
AWAY_S = 10.0
"""Long enough for the longest wait between two tries of an agent, short enough for its lease."""
PRODUCT = "what a fleet costs that comes back, wherever it runs"
ELSEWHERE = "on machines of its own, as a rule; here it takes its share of the same cores"
BESIDE = "the other services, this bench, and what else the machine has to do"
HERD = 5_000
CALM = 20
"""Agents that are there already."""
DEATHS = 5
ASKED_EVERY_S = 0.005
TIMES = {
    "PODIUM_HEARTBEAT_S": 30,
    "PODIUM_PROBE_S": 30,
    "PODIUM_LEASE_TTL_S": 30,
    "PODIUM_ACK_TIMEOUT_S": 5,
    "PODIUM_DETACH_GRACE_S": 1.5,
    "PODIUM_AGENT_GRACE_S": 60,
    "PODIUM_ROUTER_GRACE_S": 5,
}
"""The settings of production, not the short ones of the tests."""
PROBED_EACH_S = TIMES["PODIUM_PROBE_S"] - TIMES["PODIUM_ACK_TIMEOUT_S"]
"""So early that the answer is there when the proof before it is as old as one may be."""


@asynccontextmanager
async def fleet(**times: float) -> AsyncIterator[Stage]:
    """Run a suite with the default times, or others."""
    with tempfile.TemporaryDirectory() as folder:
        environ = {**TIMES, **times, "PODIUM_JOURNAL": "sqlite"}
        async with staged(Path(folder), environ=environ) as stage:
            yield stage


async def crowd(
    stage: Stage,
    prefix: str,
    count: int,
    task_type: str,
    beat_s: float = TIMES["PODIUM_HEARTBEAT_S"],
) -> Process:
    """Start `count` agents in a process and return when all are accepted."""
    address = stage.suite.addresses["routing"]
    arguments = ("-m", "tests.bench.crowd", address, prefix, str(count), task_type, str(beat_s))
    process = stage.processes.python(*arguments)
    await asyncio.to_thread(process.wait_for, "^all$", 120.0)
    return process


async def sessions(stage: Stage, prefix: str, count: int, task_type: str, together: int) -> Process:
    """Start `count` agents of the SDK in a process and return when all are accepted."""
    address = stage.suite.addresses["routing"]
    arguments = ("-m", "tests.bench.sessions", address, prefix, str(count), task_type)
    process = stage.processes.python(*arguments, str(together))
    await asyncio.to_thread(process.wait_for, "^all$", 120.0)
    return process


async def _idle(scale: float) -> list[Row]:
    count = max(WARM_SESSIONS, round(IDLE_SESSIONS * scale))
    async with fleet() as stage:
        await crowd(stage, "warm", WARM_SESSIONS, "idle")
        pid = stage.suite.pids["routing"]
        before_mb = machine.memory_mb(pid)
        share = -(-count // CROWDS)
        for number in range(CROWDS):
            await crowd(stage, f"idle-{number}", share, "idle")
        each_kb = (machine.memory_mb(pid) - before_mb) * 1024 / (CROWDS * share)
        watched_s = WATCHED_S * min(1.0, scale)
        used_s = machine.cpu_seconds(pid)
        await asyncio.sleep(watched_s)
        used_s = machine.cpu_seconds(pid) - used_s
    # A probe and its answer, which is sign of life enough.
    messages = 2 * (WARM_SESSIONS + CROWDS * share) / PROBED_EACH_S * watched_s
    sessions = f"{CROWDS * share:,} more sessions on connections of their own"
    return [
        Row("memory of an idle session in Routing", each_kb, "KB", most=60.0, note=sessions),
        Row(
            "CPU of Routing, all idle",
            used_s / watched_s * 100,
            "% of a core",
            most=5.0,
            note=f"a probe each {PROBED_EACH_S} s, and its answer",
        ),
        Row("for each of these messages", used_s / messages * 1e6, "us"),
    ]


async def _listening(stage: Stage) -> float:
    """Return when the router's port can be connected to."""
    host, _, port = stage.suite.addresses["routing"].rpartition(":")
    while True:
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            await asyncio.sleep(ASKED_EVERY_S)
            continue
        writer.close()
        return time.monotonic()


async def _returning(scale: float) -> list[Row]:
    hosts = await _returned(scale, TOGETHER, f"{TOGETHER} to a connection, as in hosts")
    return hosts + await _returned(scale, 1, "each on a connection of its own")


async def _returned(scale: float, together: int, how: str) -> list[Row]:
    share = max(10, round(RETURNING * scale / CROWDS))
    count = CROWDS * share
    async with fleet() as stage:
        crowds = [
            await sessions(stage, f"held-{n}", share, "held", together) for n in range(CROWDS)
        ]
        task_ids = await stage.submit("held", count=count)
        for task_id in task_ids:
            await stage.until(task_id, "STARTED", within_s=60.0)
        first = await _return(stage, crowds, count)
        await asyncio.sleep(TIMES["PODIUM_DETACH_GRACE_S"] + 1.0)  # whoever was late is given up
        again = ("ATTEMPT_FAILED", "HANDED_BACK")
        requeued = sum(any(kind in again for kind in stage.of(each)) for each in task_ids)
        later = await _return(stage, crowds, count, AWAY_S)
    note = f"{count:,} agents of the SDK with a task each, {how}; Routing killed"
    away = f"{how}; Routing away for {AWAY_S:g} s"
    return [
        Row("back after it listens, p50", percentile(first.after_s, 0.5), "s", note=note),
        Row("back after it listens, p99", percentile(first.after_s, 0.99), "s", most=2.0),
        Row(
            "leases kept at once", first.kept / count * 100, "%", note="others are asked for later"
        ),
        Row("tasks requeued", requeued / count * 100, "%", most=0.1),
        Row("CPU of Routing for each agent that is back", first.router_ms, "ms", note=PRODUCT),
        Row("CPU of the agent for it", first.agent_ms, "ms", note=ELSEWHERE),
        Row("CPU of all else until then", first.beside_s, "s", note=BESIDE),
        Row(
            "back after it listens again, p99",
            percentile(later.after_s, 0.99),
            "s",
            most=2.0,
            note=away,
        ),
    ]


class Return(NamedTuple):
    """A fleet that has come back."""

    after_s: list[float]
    """For each agent, from when the router listens."""
    kept: int
    """Leases."""
    router_ms: float
    """CPU of the router for an agent, from when it listens until all are back."""
    agent_ms: float
    """The same of the agents' processes."""
    beside_s: float
    """The same of everything else on the machine, in all."""


async def _return(
    stage: Stage, crowds: Sequence[Process], count: int, away_s: float = 0.0
) -> Return:
    """Kill the router, start it, and wait until all are back."""

    def back() -> list[tuple[str, str, str]]:
        said = (re.findall(r"^back ([\d.]+) (\d+) (\S+)", c.output(), re.M) for c in crowds)
        return [each for found in said for each in found]

    known = set(back())
    await stage.kill("routing")
    await asyncio.sleep(away_s)
    listening = asyncio.create_task(_listening(stage))
    await stage.suite.start("routing")
    from_s = await listening
    hosts = {str(number): each.pid for number, each in enumerate(crowds)}
    meter = machine.Meter({"routing": stage.suite.pids["routing"], **hosts})
    meter.start()
    whole = len(known) + count
    await eventually(
        lambda: len(back()) >= whole, within_s=60.0, every_s=0.05, told=lambda: f"{len(back())}"
    )
    used, beside_s = meter.used(), meter.foreign()
    router_ms = used.pop("routing") * 1e3 / count
    new = [each for each in back() if each not in known]
    after_s, kept = [float(at) - from_s for at, _, _ in new], sum(int(held) for _, held, _ in new)
    return Return(after_s, kept, router_ms, sum(used.values()) * 1e3 / count, beside_s)


async def _deaths(scale: float) -> list[Row]:
    frozen_s, killed_s = [], []
    async with fleet(PODIUM_LEASE_TTL_S=LEASE_S) as stage:
        for number in range(max(1, round(DEATHS * scale))):
            frozen = await stage.worked(f"frozen-{number}", f"frost-{number}")
            task_id = await stage.submit_one(f"frost-{number}", "sleep 300")
            await stage.until(task_id, "STARTED")
            frozen.signal(signal.SIGSTOP)
            began_s = time.monotonic()
            await stage.until(task_id, "RETRYING", within_s=LEASE_S * 3)
            frozen_s.append(time.monotonic() - began_s)
            frozen.signal(signal.SIGCONT)
            first = await stage.worked(f"first-{number}", f"death-{number}")
            plain = RetryPolicy(max_retries=3)
            task_id = await stage.submit_one(f"death-{number}", "first 300", retry_policy=plain)
            await stage.until(task_id, "STARTED")
            await stage.worked(f"second-{number}", f"death-{number}")
            began_s = time.monotonic()
            await asyncio.to_thread(first.kill)
            await stage.until(task_id, "STARTED", 2)
            killed_s.append(time.monotonic() - began_s)
    return [
        Row(
            "frozen agent: its task requeued after, worst",
            max(frozen_s),
            "s",
            most=LEASE_S + 1.0,
            note=f"lease {LEASE_S:g} s, {len(frozen_s)} agents",
        ),
        Row(
            "killed agent: its task starts elsewhere after, worst",
            max(killed_s),
            "s",
            most=2.0,
            note="default grace and backoff",
        ),
    ]


async def _herd(scale: float) -> list[Row]:
    count = max(500, round(HERD * scale))
    async with fleet() as stage:
        worst_ms, all_s, asked = await _storm(stage, count)
    about = f"{count:,} more on {CROWDS} bridges"
    return [
        Row("answer to another agent meanwhile, worst", worst_ms, "ms", most=50.0, note=about),
        Row("all are in after", all_s, "s", note=f"{asked} were asked to come back"),
    ]


async def _storm(stage: Stage, count: int) -> tuple[float, float, int]:
    """Let a fleet arrive; return ms, seconds, and how many were asked to come back."""
    address = stage.suite.addresses["routing"]
    calm = [Calm(address, f"calm-{number}") for number in range(CALM)]
    asking = [asyncio.create_task(each.run()) for each in calm]
    arguments = ("-m", "tests.bench.herd", address, "herd", str(CROWDS), str(count))
    process = stage.processes.python(*arguments)
    await asyncio.to_thread(process.wait_for, "^ready$", 60.0)
    await eventually(lambda: all(len(each.answers) > 10 for each in calm))
    from_s = time.monotonic()
    process.signal(signal.SIGUSR1)
    await asyncio.to_thread(process.wait_for, "^all$", 120.0)
    for task in asking:
        task.cancel()
    told = re.findall(r"^in ([\d.]+) (\d+)", process.output(), re.M)
    all_s = max(float(at) for at, _ in told)
    meanwhile = [
        took_s for each in calm for at, took_s in each.answers if from_s <= at < from_s + all_s
    ]
    return max(meanwhile) * 1e3, all_s, sum(int(asked) > 0 for _, asked in told)


PARTS: dict[str, tuple[str, parts.Part]] = {
    "idle": ("5,000 idle sessions on one Routing", lambda scale: uvloop.run(_idle(scale))),
    "return": ("Routing is killed", lambda scale: uvloop.run(_returning(scale))),
    "herd": ("A fleet comes at once", lambda scale: uvloop.run(_herd(scale))),
    "deaths": ("Agents freeze and die", lambda scale: uvloop.run(_deaths(scale))),
}
"""By name: a title, and what measures it, given the share of the full size."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the parts that were asked for; 1 = a goal was missed."""
    return parts.run("make bench-agents ARGS=...", __doc__ or "", PARTS, argv)


if __name__ == "__main__":
    sys.exit(main())
