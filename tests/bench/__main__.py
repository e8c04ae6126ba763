"""`make bench`: throughput, latency, CPU and memory, beside the bare skeleton in the same run."""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from tests.bench import machine, reference, subject
from tests.bench.workload import AGENTS, HOSTS, Latency, Throughput, percentile

LAYOUTS = {"multiplexed hosts": HOSTS, "own streams": AGENTS}
SETTINGS = "SQLite WAL, synchronous=FULL, group commit; every task traced; all features on"


async def measure(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Run everything and return the figures."""
    figures: dict[str, Any] = {"machine": machine.description(), "settings": SETTINGS}
    for layout, streams in LAYOUTS.items():
        console.print(f"[bold]{AGENTS} agents, {layout}[/bold]")
        bare, full, latencies = [], [], []
        for repeat in range(arguments.repeats):
            console.print(f"  run {repeat + 1} of {arguments.repeats}: skeleton ...", end="")
            bare.append(await _skeleton(streams, arguments.tasks))
            console.print(f" {bare[-1].rate:,.0f}/s, Podium ...", end="")
            throughput, measured = await _podium(
                streams, arguments, with_latency=repeat == arguments.repeats - 1
            )
            full.append(throughput)
            latencies += measured
            console.print(f" {throughput.rate:,.0f}/s")
        figures[layout] = _summary(bare, full, latencies)
    return figures


async def _skeleton(streams: int, tasks: int) -> Throughput:
    with tempfile.TemporaryDirectory() as data_dir:
        async with reference.started(Path(data_dir), agents=AGENTS, streams=streams) as pids:
            await reference.throughput(pids, tasks=min(tasks, 5000), window=2000)
            return await reference.throughput(pids, tasks=tasks, window=2000)


async def _podium(
    streams: int, arguments: argparse.Namespace, *, with_latency: bool
) -> tuple[Throughput, list[Latency]]:
    with tempfile.TemporaryDirectory() as data_dir:
        async with subject.started(Path(data_dir), streams=streams) as running:
            await running.throughput(min(arguments.tasks, 5000))
            gc.collect()
            throughput = await running.throughput(arguments.tasks)
            latencies = []
            for rate in arguments.rates if with_latency else ():
                latencies.append(await running.latency(rate, arguments.seconds))
            return throughput, latencies


def _summary(
    bare: Sequence[Throughput], full: Sequence[Throughput], latencies: Sequence[Latency]
) -> dict[str, Any]:
    return {
        "skeleton_tasks_per_s": _median(run.rate for run in bare),
        "tasks_per_s": _median(run.rate for run in full),
        "runs": [round(run.rate) for run in full],
        "ratio": _median(mine.rate / theirs.rate for mine, theirs in zip(full, bare, strict=True)),
        "cpu_s_per_1000": _median(run.cpu_per_thousand for run in full),
        "cpu_s_per_1000_by_process": {
            name: _median(run.cpu[name] / run.tasks * 1000 for run in full) for name in full[0].cpu
        },
        "memory_mb": {name: round(mb, 1) for name, mb in full[-1].memory_mb.items()},
        "foreign_cpu_share": _median(run.foreign_cpu / run.seconds / 2 for run in full),
        "latency": [
            {
                "offered_per_s": run.offered,
                "achieved_per_s": round(run.achieved, 1),
                "assignment_p50_ms": percentile(run.assignment_ms, 0.5),
                "assignment_p99_ms": percentile(run.assignment_ms, 0.99),
                "end_to_end_p50_ms": percentile(run.end_to_end_ms, 0.5),
                "end_to_end_p99_ms": percentile(run.end_to_end_ms, 0.99),
                "cpu_s_per_1000": sum(run.cpu.values()) / len(run.end_to_end_ms) * 1000,
            }
            for run in latencies
        ],
    }


def _median(values: Any) -> float:
    return round(statistics.median(values), 4)


def show(figures: dict[str, Any], console: Console) -> None:
    """Print the figures as tables."""
    described = figures["machine"]
    console.print(f"\n{described['cpu']}, {described['system']}, Python {described['python']}")
    console.print(f"{described['packages']}; commit {described['commit']}")
    console.print(f"{figures['settings']}; services, {HOSTS} agent hosts and client as processes\n")
    table = Table(title="Throughput: first submit to last result (medians)")
    for column in ("agents", "skeleton/s", "Podium/s", "ratio", "CPU-s/1,000", "others' CPU"):
        table.add_column(column, justify="left" if column == "agents" else "right")
    rows = Table(title="Open-loop latency, from the instant a task was due")
    for column in ("agents", "offered/s", "achieved/s", "assign p50", "p99", "e2e p50", "p99 ms"):
        rows.add_column(column, justify="left" if column == "agents" else "right")
    costs = Table(title="CPU-seconds per 1,000 tasks and memory in MB, by process")
    costs.add_column("process")
    for layout in LAYOUTS:
        found = figures[layout]
        table.add_row(
            layout,
            f"{found['skeleton_tasks_per_s']:,.0f}",
            f"{found['tasks_per_s']:,.0f}",
            f"{found['ratio']:.2f}",
            f"{found['cpu_s_per_1000']:.3f}",
            f"{found['foreign_cpu_share']:.0%}",
        )
        for run in found["latency"]:
            rows.add_row(
                layout,
                f"{run['offered_per_s']:,.0f}",
                f"{run['achieved_per_s']:,.0f}",
                *(
                    f"{run[f'{what}_{share}_ms']:.2f}"
                    for what in ("assignment", "end_to_end")
                    for share in ("p50", "p99")
                ),
            )
        costs.add_column(f"CPU, {layout}", justify="right")
        costs.add_column("MB", justify="right")
    for name in figures["multiplexed hosts"]["cpu_s_per_1000_by_process"]:
        cells = []
        for layout in LAYOUTS:
            found = figures[layout]
            cells.append(f"{found['cpu_s_per_1000_by_process'][name]:.3f}")
            cells.append(f"{found['memory_mb'][name]:.0f}" if name in found["memory_mb"] else "")
        costs.add_row(name, *cells)
    for shown in (table, rows, costs):
        console.print(shown)


def main() -> int:
    """Run the bench."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--tasks", type=int, default=20_000, help="tasks a throughput run")
    parser.add_argument("--repeats", type=int, default=3, help="throughput runs, alternating")
    parser.add_argument("--rates", type=float, nargs="*", default=[300.0, 1000.0])
    parser.add_argument("--seconds", type=float, default=7.0, help="length of a latency run")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    arguments = parser.parse_args()
    console = Console(width=110)
    figures = uvloop.run(measure(arguments, console))
    show(figures, console)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
