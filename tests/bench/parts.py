"""A bench of several parts: each is measured when it is asked for and shown by its goals."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from tests.bench import machine
from tests.bench.rows import Row, show

Part = Callable[[float], Sequence[Row]]
"""Measures, given the share of the full size."""


def run(
    prog: str,
    description: str,
    parts: Mapping[str, tuple[str, Part]],
    argv: Sequence[str] | None = None,
) -> int:
    """Measure the parts that were asked for; 1 = a goal was missed.

    Args:
        prog: How people start it.
        description: What it measures.
        parts: By name: a title, and what measures it.
        argv: The arguments; those of the process by default.
    """
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(parts)}; all")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    arguments = parser.parse_args(argv)
    unknown = set(arguments.parts) - set(parts)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    console = Console(width=120)
    described = machine.description()
    console.print(f"{described['cpu']}, {described['system']}, Python {described['python']}")
    found: dict[str, list[Row]] = {}
    for name in arguments.parts or parts:
        title, measure = parts[name]
        found[name] = list(measure(arguments.scale))
        show(title, found[name], console)
    if arguments.json:
        figures = {name: [row._asdict() for row in rows] for name, rows in found.items()}
        arguments.json.write_text(json.dumps({"machine": described, **figures}, indent=2))
    return int(any(row.met is False for rows in found.values() for row in rows))
