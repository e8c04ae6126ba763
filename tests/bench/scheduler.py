"""`make bench-scheduler`: what the queue, the log and its recovery cost, each figure by its goal.

Each part is a function that takes the share of the full size and returns rows; `PARTS` lists them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from tests.bench import backlog, commits, fairness, keys, machine, recovery
from tests.bench.rows import Row, show

Part = Callable[[float], Sequence[Row]]

PARTS: dict[str, tuple[str, Part]] = {
    "grants": ("Grants at any depth of the backlog", backlog.grants),
    "memory": ("Memory of what waits", backlog.memory),
    "commits": ("Group commit under submits", commits.measure),
    "fairness": ("Fairness and the wait of the lowest class (virtual time)", fairness.measure),
    "journals": ("SQLite and PostgreSQL on the same disk under the same load", recovery.loads),
    "recovery": ("Recovery of one that was killed", recovery.recoveries),
    "takeover": ("Takeover between two replicas", recovery.takeovers),
    "keys": ("Latency that two concurrency rules add", keys.measure),
}
"""By name: a title, and what measures it, given the share of the full size."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the parts that were asked for; 1 = a goal was missed."""
    parser = argparse.ArgumentParser(prog="make bench-scheduler ARGS=...", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)}; all")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    arguments = parser.parse_args(argv)
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    console = Console(width=120)
    described = machine.description()
    console.print(f"{described['cpu']}, {described['system']}, Python {described['python']}")
    found: dict[str, list[Row]] = {}
    for name in arguments.parts or PARTS:
        title, measure = PARTS[name]
        found[name] = list(measure(arguments.scale))
        show(title, found[name], console)
    if arguments.json:
        figures = {name: [row._asdict() for row in rows] for name, rows in found.items()}
        arguments.json.write_text(json.dumps({"machine": described, **figures}, indent=2))
    return int(any(row.met is False for rows in found.values() for row in rows))


if __name__ == "__main__":
    sys.exit(main())
