"""`make bench`: what Podium does on one workload, beside the bare skeleton in the same run.

docs/bench.md tells what each figure means. Parts: dispatch (throughput, latency, costs of every
setup), overload (twice as much as can be done), flat (whether anything grows).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console

from tests.bench import dispatch, flat, machine, overload, plot, report
from tests.bench.dispatch import Dispatch, Plan
from tests.bench.rows import Row, show
from tests.bench.setups import SETUPS

PARTS = ("dispatch", "overload", "flat")
RATES = (0.0, 300.0, 1000.0)
QUICK = Plan(tasks=10_000, repeats=1, rates=RATES, seconds=3.0, foreign_max=0.15)
FULL = Plan(tasks=20_000, repeats=5, rates=RATES, seconds=7.0, foreign_max=0.10)
FSYNCS = 200


def fsync_ms() -> float:
    """Return the median time of an fdatasync of 512 bytes where the journals are."""
    took_ms = []
    with tempfile.NamedTemporaryFile() as file:
        for _ in range(FSYNCS):
            file.write(b"x" * 512)
            file.flush()
            began_s = time.perf_counter()
            os.fdatasync(file.fileno())
            took_ms.append((time.perf_counter() - began_s) * 1e3)
    return dispatch.median(took_ms)


async def measure(arguments: argparse.Namespace, plan: Plan, console: Console) -> dict[str, Any]:
    """Run the parts that were asked for, print each when it is done, and return the figures."""
    figures: dict[str, Any] = {
        "machine": machine.description(),
        "mode": f"{'full' if arguments.full else 'quick'} mode, {plan}",
        "fsync_ms": fsync_ms(),
    }
    report.heading(figures, console)
    rows: list[Row] = []
    for part in arguments.parts or PARTS:
        console.print(f"[bold]{part}[/bold]")
        if part == "dispatch":
            setups = [s for s in SETUPS if not arguments.only or arguments.only in s.name]
            found = await Dispatch(plan, console, setups).measure()
            figures[part] = found
            report.dispatch(found, console)
            rows += dispatch.goals(found, figures["fsync_ms"])
        else:
            figures[part], goals = await OTHERS[part](arguments.full, console)
            rows += goals
    figures["goals"] = [row._asdict() | {"met": row.met} for row in rows]
    show("Figures and goals", rows, console)
    return figures


Part = Callable[[bool, Console], Awaitable[tuple[dict[str, Any], list[Row]]]]
OTHERS: dict[str, Part] = {"overload": overload.measure, "flat": flat.measure}


def keep(figures: dict[str, Any], folder: Path, console: Console) -> None:
    """Write the figures, and a picture of them, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    # What was not measured is null: JSON has no NaN, and readers other than Python's refuse it.
    (folder / "bench.json").write_text(json.dumps(_finite(figures), indent=2, allow_nan=False))
    written = [folder / "bench.json"]
    if "dispatch" in figures:
        described = figures["machine"]
        told = (described["cpu"], f"Python {described['python']}", f"commit {described['commit']}")
        caption = ", ".join((*told, figures["mode"].partition(",")[0]))
        written.append(folder / "bench.svg")
        written[-1].write_text(plot.svg(plot.panels(figures["dispatch"]), caption))
    console.print("Written: " + ", ".join(map(str, written)))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; goals that are missed are printed, and are no failure."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)}; all")
    parser.add_argument("--full", action="store_true", help="medians of 5 runs, longer ones")
    parser.add_argument("--only", default="", help="setups whose name contains this")
    parser.add_argument("--tasks", type=int, help="tasks of a throughput run")
    parser.add_argument("--repeats", type=int, help="runs of each setup, by turns")
    parser.add_argument("--rates", type=float, nargs="*", help="tasks a second; 0 = one at a time")
    parser.add_argument("--seconds", type=float, help="length of a latency run")
    parser.add_argument("--out", type=Path, default=Path("artifacts"), help="folder for results")
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    given = {
        name: value
        for name in ("tasks", "repeats", "rates", "seconds")
        if (value := getattr(arguments, name)) is not None
    }
    plan = (FULL if arguments.full else QUICK)._replace(**given)
    console = Console(width=150)
    figures = uvloop.run(measure(arguments, plan, console))
    keep(figures, arguments.out, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
