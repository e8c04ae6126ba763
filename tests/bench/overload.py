"""Twice as much as can be done: what completes, how fast others are refused, what comes after.

The backlog is bounded, so that the scheduler refuses what it has no room for. One task in twenty is
urgent. The peak that the rest is told against is measured on the same suite, just before.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.bench import subject
from tests.bench.client import OpenLoop, Samples, settle, undisturbed
from tests.bench.rows import Row
from tests.bench.setups import Setup
from tests.bench.workload import HOSTS, percentile

BACKLOG = 3_000
"""More than the closed loop of the peak has in flight."""
SETUP = Setup("overload", HOSTS, limits=(("PODIUM_OPEN_TASKS_MAX", str(BACKLOG)),))
URGENT, URGENT_EVERY = 9, 20
RAMP_S = 1.0
"""Not counted: the backlog fills."""
AFTER_RATE, AFTER_S = 300.0, 7.0
NORMAL_MS = 50.0
"""To the result: what took longer was not yet normal."""


async def measure(full: bool, console: Console) -> tuple[dict[str, Any], list[Row]]:
    """Run it and return the figures."""
    tasks, seconds = (40_000, 15.0) if full else (10_000, 5.0)
    console.print(f"  {SETUP.settings}")
    with tempfile.TemporaryDirectory() as folder:
        async with subject.started(Path(folder), SETUP) as running:
            await running.throughput(tasks // 2)
            peak = (await running.throughput(tasks)).rate
            async with running.client() as client, running.client() as later:
                await settle(client)
                await settle(later)
                urgent, rest, after = Samples(), Samples(), Samples()
                flood = OpenLoop(
                    client,
                    lambda n: (rest, None) if n % URGENT_EVERY else (urgent, URGENT),
                )
                calm = OpenLoop(later, lambda _: (after, None))
                with undisturbed():
                    flooding = asyncio.create_task(flood.run(2 * peak, seconds))
                    await asyncio.sleep(seconds)
                    await calm.run(AFTER_RATE, AFTER_S)
                    await flooding
    figures = summary(peak, seconds, urgent, rest, after)
    return figures, goals(figures)


def summary(
    peak: float, seconds: float, urgent: Samples, rest: Samples, after: Samples
) -> dict[str, Any]:
    """Return the figures of a run."""
    ended_s = [at for at in urgent.ended_s + rest.ended_s if RAMP_S <= at < seconds]
    refused_ms = urgent.refused_ms + rest.refused_ms
    held_back_ms = urgent.held_back_ms + rest.held_back_ms
    hints = urgent.hints_s + rest.hints_s
    slow = [
        at for at, took in zip(after.ended_s, after.end_to_end_ms, strict=True) if took > NORMAL_MS
    ]
    return {
        "settings": SETUP.settings,
        "peak_tasks_per_s": round(peak),
        "offered_per_s": round((urgent.offered + rest.offered) / seconds),
        "completed_per_s": round(len(ended_s) / (seconds - RAMP_S)),
        "refused": len(refused_ms),
        "refused_p50_ms": percentile(refused_ms, 0.5),
        "refused_p99_ms": percentile(refused_ms, 0.99),
        "held_back": len(held_back_ms),
        "held_back_p50_ms": percentile(held_back_ms, 0.5),
        "held_back_p99_ms": percentile(held_back_ms, 0.99),
        "refused_without_hint": sum(1 for hint in hints if math.isnan(hint)),
        "urgent_offered": urgent.offered,
        "urgent_refused": len(urgent.refused_ms) + len(urgent.held_back_ms),
        "urgent_assignment_p50_ms": percentile(urgent.assignment_ms, 0.5),
        "urgent_assignment_p99_ms": percentile(urgent.assignment_ms, 0.99),
        "urgent_end_to_end_p99_ms": percentile(urgent.end_to_end_ms, 0.99),
        "other_assignment_p50_ms": percentile(rest.assignment_ms, 0.5),
        "back_to_normal_s": max(slow, default=0.0),
    }


def goals(figures: dict[str, Any]) -> list[Row]:
    """Return what is wanted of the figures."""
    share = figures["completed_per_s"] / figures["peak_tasks_per_s"]
    offered = figures["offered_per_s"]
    urgent = f"{figures['urgent_refused']:,} of {figures['urgent_offered']:,} refused"
    return [
        Row("overload: peak", figures["peak_tasks_per_s"], "tasks/s"),
        Row("overload: share of the peak that completes", round(share, 3), least=0.95,
            note=f"{offered:,}/s offered"),
        Row("overload: urgent tasks to their assignment, p50",
            figures["urgent_assignment_p50_ms"], "ms", note=urgent),
        Row("overload: urgent tasks to their assignment, p99",
            figures["urgent_assignment_p99_ms"], "ms", most=50),
        *_refusals("the scheduler", figures, "refused"),
        *_refusals("the client, which knows", figures, "held_back"),
        Row("overload: refusals without a hint when to come again",
            figures["refused_without_hint"], most=0),
        Row("overload: back to normal after", figures["back_to_normal_s"], "s", most=5,
            note=f"last task beyond {NORMAL_MS:.0f} ms at {AFTER_RATE:.0f}/s"),
    ]  # fmt: skip


def _refusals(by: str, figures: dict[str, Any], kind: str) -> list[Row]:
    count = figures[kind]
    if not count:
        return []
    note = f"{count:,} refused by {by}"
    return [
        Row(f"overload: due to refusal by {by}, p50", figures[f"{kind}_p50_ms"], "ms", note=note),
        Row(f"overload: due to refusal by {by}, p99", figures[f"{kind}_p99_ms"], "ms", most=5),
    ]
