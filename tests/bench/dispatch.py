"""The dispatch workload in every setup, beside the skeleton of the same streams in the same run."""

from __future__ import annotations

import math
import os
import statistics
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from rich.console import Console

from tests.bench import reference, subject
from tests.bench.rows import Row
from tests.bench.setups import MULTIPLEXED, OWN_STREAMS, SETUPS, Setup
from tests.bench.workload import AGENTS, WINDOW, Latency, Throughput, percentile

WITH_SKELETON = (MULTIPLEXED, OWN_STREAMS)
"""Also those whose latencies are measured."""
TRIES = 3
_CPUS = os.cpu_count() or 1

T = TypeVar("T", Throughput, Latency)


class Plan(NamedTuple):
    """How much is measured."""

    tasks: int
    """Of a throughput run, after half as many to warm up."""
    repeats: int
    rates: Sequence[float]
    """Of the open loops, tasks a second; 0 = one task at a time."""
    seconds: float
    """Of a latency run."""
    foreign_max: float
    """Share of the machine that other programs may take; runs with more are repeated."""


@dataclass
class Found:
    """The runs of one setup."""

    skeleton: list[Throughput] = field(default_factory=list)
    suite: list[Throughput] = field(default_factory=list)
    latency: dict[float, list[Latency]] = field(default_factory=dict)
    skeleton_latency: dict[float, list[Latency]] = field(default_factory=dict)
    again: int = 0
    """Runs that were repeated because of other programs."""


class Dispatch:
    """Measures setups by turns, so that what the machine does to one it does to all."""

    def __init__(self, plan: Plan, console: Console, setups: Sequence[Setup] = SETUPS) -> None:
        self._plan = plan
        self._console = console
        self._found = {setup: Found() for setup in setups}

    async def measure(self) -> dict[str, Any]:
        """Run everything and return the figures by setup."""
        for repeat in range(self._plan.repeats):
            for setup in self._found:
                self._console.print(
                    f"  {repeat + 1} of {self._plan.repeats}, {setup.name}:", end=""
                )
                if setup in WITH_SKELETON:
                    await self._skeleton(setup)
                await self._suite(setup)
                self._console.print()
        return {setup.name: summary(setup, found) for setup, found in self._found.items()}

    async def _skeleton(self, setup: Setup) -> None:
        found = self._found[setup]
        with tempfile.TemporaryDirectory() as folder:
            async with reference.started(
                Path(folder), agents=AGENTS, streams=setup.streams
            ) as pids:
                await reference.throughput(pids, tasks=self._plan.tasks // 2, window=WINDOW)
                run = await self._least_disturbed(
                    found,
                    lambda: reference.throughput(pids, tasks=self._plan.tasks, window=WINDOW),
                )
                found.skeleton.append(run)
                for rate in self._plan.rates:
                    one = await self._least_disturbed(
                        found, partial(reference.latency, pids, rate, self._plan.seconds)
                    )
                    found.skeleton_latency.setdefault(rate, []).append(one)
        self._console.print(f" skeleton {run.rate:,.0f}/s,", end="")

    async def _suite(self, setup: Setup) -> None:
        plan, found = self._plan, self._found[setup]
        with tempfile.TemporaryDirectory() as folder:
            async with subject.started(Path(folder), setup) as running:
                await running.throughput(plan.tasks // 2)
                run = await self._least_disturbed(found, lambda: running.throughput(plan.tasks))
                found.suite.append(run)
                self._console.print(f" Podium {run.rate:,.0f}/s", end="")
                for rate in plan.rates if setup in WITH_SKELETON else ():
                    one = await self._least_disturbed(
                        found, partial(running.latency, rate, plan.seconds)
                    )
                    found.latency.setdefault(rate, []).append(one)
                    self._console.print(
                        f", {label(rate)} p50 {percentile(one.assignment_ms, 0.5):.1f} ms", end=""
                    )

    async def _least_disturbed(self, found: Found, run: Callable[[], Awaitable[T]]) -> T:
        """Run until other programs took little enough, three times at most; return the best."""
        best = await run()
        for _ in range(TRIES - 1):
            if foreign_share(best) <= self._plan.foreign_max:
                break
            found.again += 1
            best = min(best, await run(), key=foreign_share)
        return best


def foreign_share(run: Throughput | Latency) -> float:
    """Return the share of the machine that other programs took during a run."""
    return run.foreign_cpu / run.seconds / _CPUS


def label(rate: float) -> str:
    """Return how an open loop is called."""
    return f"{rate:,.0f}/s" if rate else "quiet"


def summary(setup: Setup, found: Found) -> dict[str, Any]:
    """Return the medians of a setup's runs."""
    runs = found.suite
    by_turns = list(zip(runs, found.skeleton, strict=False))
    return {
        "settings": setup.settings,
        "tasks_per_s": median(run.rate for run in runs),
        "runs": [round(run.rate) for run in runs],
        "skeleton_tasks_per_s": median(run.rate for run in found.skeleton),
        "skeleton_runs": [round(run.rate) for run in found.skeleton],
        "skeleton_cpu_s_per_1000": median(run.cpu_per_thousand for run in found.skeleton),
        "ratio": median(mine.rate / theirs.rate for mine, theirs in by_turns),
        "cpu_s_per_1000": median(run.cpu_per_thousand for run in runs),
        "cpu_s_per_1000_by_process": {
            name: median(run.cpu[name] / run.tasks * 1000 for run in runs) for name in runs[0].cpu
        },
        "memory_mb": {name: median(r.memory_mb[name] for r in runs) for name in runs[0].memory_mb},
        "foreign_cpu_share": median(foreign_share(run) for run in runs),
        "runs_repeated": found.again,
        "latency": [_latency(rate, runs) for rate, runs in found.latency.items()],
        "skeleton_latency": [_latency(rate, runs) for rate, runs in found.skeleton_latency.items()],
    }


def _latency(rate: float, runs: Sequence[Latency]) -> dict[str, Any]:
    figures: dict[str, Any] = {"offered": label(rate), "offered_per_s": rate}
    figures["achieved_per_s"] = median(run.achieved for run in runs)
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        figures[f"assignment_{name}_ms"] = median(
            percentile(run.assignment_ms, share) for run in runs
        )
        figures[f"end_to_end_{name}_ms"] = median(
            percentile(run.end_to_end_ms, share) for run in runs
        )
    figures["cpu_s_per_1000"] = median(
        sum(run.cpu.values()) / len(run.end_to_end_ms) * 1000 for run in runs
    )
    figures["foreign_cpu_share"] = median(foreign_share(run) for run in runs)
    return figures


def median(values: Iterable[float]) -> float:
    """Return the median to four places; NaN of nothing."""
    found = list(values)
    return round(statistics.median(found), 4) if found else math.nan


def goals(figures: dict[str, Any], fsync_ms: float) -> list[Row]:
    """Return what is wanted of the figures that are there."""
    rows: list[Row] = []
    for setup, least in ((MULTIPLEXED, 8_000.0), (OWN_STREAMS, None)):
        if found := figures.get(setup.name):
            rows += _goals_of(setup.name, found, least, fsync_ms)
    for traced, untraced, most in (
        (OWN_STREAMS.name, "own streams, no tracing", 0.15),
        (MULTIPLEXED.name, "multiplexed, no tracing", 0.30),
    ):
        if traced in figures and untraced in figures:
            cost = 1 - figures[traced]["tasks_per_s"] / figures[untraced]["tasks_per_s"]
            rows.append(Row(f"{traced}: throughput that tracing costs", round(cost, 3), most=most))
    return rows


def _goals_of(name: str, found: dict[str, Any], least: float | None, fsync_ms: float) -> list[Row]:
    rows = [
        Row(f"{name}: ratio to the skeleton", found["ratio"], least=0.5),
        Row(f"{name}: throughput", found["tasks_per_s"], "tasks/s", least=least),
        Row(f"{name}: CPU-seconds per 1,000", found["cpu_s_per_1000"], "s", most=0.25),
    ]
    bare = {run["offered_per_s"]: run for run in found["skeleton_latency"]}
    for run in found["latency"]:
        rate, p50, p99 = run["offered_per_s"], run["assignment_p50_ms"], run["assignment_p99_ms"]
        notes = [
            f"bare skeleton {bare[rate][f'assignment_{share}_ms']:.1f} ms" if rate in bare else ""
            for share in ("p50", "p99")
        ]
        if rate == 0:
            note = f"one fsync ({fsync_ms:.2f} ms, median) + 1 ms; {notes[0]}".rstrip("; ")
            rows.append(Row(f"{name}: quiet, p50", p50, "ms", most=fsync_ms + 1, note=note))
        elif rate == 1_000:
            for share, value, most, note in (("p50", p50, 5, notes[0]), ("p99", p99, 20, notes[1])):
                what = f"{name}: assignment at 1,000/s, {share}"
                rows.append(Row(what, value, "ms", most=most, note=note))
    return rows
