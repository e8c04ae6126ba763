"""`make bench-scheduler`: what the queue, the log and its recovery cost, each row by itself."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import machine, recovery
from tests.bench.rows import Row


def measure(chosen: argparse.Namespace, console: Console) -> list[Row]:
    """Run what was chosen."""
    rows = []
    with tempfile.TemporaryDirectory(dir=chosen.place) as place:
        # A server that may not run as root must be able to go there.
        Path(place).chmod(0o755)
        console.print("journals, recovery, takeover ...")
        options = recovery.Chosen(open_tasks=chosen.open_tasks, seconds=chosen.seconds)
        rows += recovery.measure(Path(place), options)
    return rows


def show(rows: Sequence[Row], console: Console) -> None:
    """Print the figures as a table."""
    described = machine.description()
    console.print(f"\n{described['cpu']}, {described['system']}, Python {described['python']}")
    console.print(f"{described['packages']}; commit {described['commit']}\n")
    table = Table("measure", "figure", "goal")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench."""
    parser = argparse.ArgumentParser(prog="make bench-scheduler ARGS=...", description=__doc__)
    parser.add_argument("--open-tasks", type=int, default=100_000, help="tasks at each death")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load")
    parser.add_argument("--place", type=Path, help="directory on the disk that is measured")
    chosen = parser.parse_args(arguments)
    console = Console()
    show(measure(chosen, console), console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
