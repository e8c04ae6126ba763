"""The figures of the dispatch workload as tables."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console
from rich.table import Table


def heading(figures: dict[str, Any], console: Console) -> None:
    """Say on what and how the figures were measured."""
    described = figures["machine"]
    console.print(f"\n{described['cpu']}, {described['system']}, Python {described['python']}")
    console.print(f"{described['packages']}; commit {described['commit']}")
    console.print(
        f"{figures['mode']}; fdatasync here takes {figures['fsync_ms']:.2f} ms (median)\n"
    )


def dispatch(found: dict[str, Any], console: Console) -> None:
    """Print throughput, latency and costs of each setup."""
    console.print("[bold]What each setup is[/bold]")
    for name, figures in found.items():
        console.print(f"  {name}: {figures['settings']}")
    for table in (_throughput(found), _latency(found), _costs(found)):
        if table.row_count:
            console.print(table)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    return table


def _throughput(found: dict[str, Any]) -> Table:
    table = _table(
        "Throughput: first submit to last result known at the submitter (medians)",
        *("setup", "tasks/s", "lowest", "highest", "skeleton/s", "ratio", "CPU-s/1,000"),
        *("skeleton's", "others' CPU", "run again"),
    )
    for name, figures in found.items():
        table.add_row(
            name,
            _number(figures["tasks_per_s"]),
            _number(min(figures["runs"])),
            _number(max(figures["runs"])),
            _number(figures["skeleton_tasks_per_s"]),
            _number(figures["ratio"], 2),
            _number(figures["cpu_s_per_1000"], 3),
            _number(figures["skeleton_cpu_s_per_1000"], 3),
            f"{figures['foreign_cpu_share']:.0%}",
            str(figures["runs_repeated"]),
        )
    return table


def _latency(found: dict[str, Any]) -> Table:
    table = _table(
        "Latency in ms, from the instant a task was due (open loop; quiet: one at a time)",
        *("setup", "offered", "achieved/s", "assign p50", "p99", "to result p50", "p99"),
        *("CPU-s/1,000", "others' CPU"),
    )
    measured = [
        (name, run)
        for whole, figures in found.items()
        for name, runs in ((whole, "latency"), (f"{whole}: skeleton", "skeleton_latency"))
        for run in figures[runs]
    ]
    for name, run in measured:
        table.add_row(
            name,
            run["offered"],
            _number(run["achieved_per_s"]),
            *(
                _number(run[f"{what}_{share}_ms"], 2)
                for what in ("assignment", "end_to_end")
                for share in ("p50", "p99")
            ),
            _number(run["cpu_s_per_1000"], 3),
            f"{run['foreign_cpu_share']:.0%}",
        )
    return table


def _costs(found: dict[str, Any]) -> Table:
    names = list(dict.fromkeys(n for f in found.values() for n in f["cpu_s_per_1000_by_process"]))
    table = _table("CPU-seconds per 1,000 tasks / memory (PSS) in MB", "process", *found)
    for name in names:
        cells = []
        for figures in found.values():
            cpu = figures["cpu_s_per_1000_by_process"].get(name)
            memory = figures["memory_mb"].get(name)
            text = "" if cpu is None else f"{cpu:.3f}"
            cells.append(text if memory is None else f"{text} / {memory:.0f}")
        table.add_row(name, *cells)
    return table


def _number(value: float, places: int = 0) -> str:
    return "" if math.isnan(value) else f"{value:,.{places}f}"
