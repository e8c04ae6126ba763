"""`python -m services`: the whole suite in one process, or with --processes as one each."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from services.kernel.config import SettingsError
from services.kernel.serving import ServiceSpec, load_all, main_together, parser
from services.suite import SERVICES, SuiteFailed, started


def specs() -> list[ServiceSpec[Any]]:
    """Every service, those first that the others lean on."""
    return [import_module(f"services.{name}.__main__").SERVICE for name in SERVICES]


async def separate() -> int:
    """Run every service as its own process until told to stop."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    data_dir = Path(os.environ.get("PODIUM_DATA_DIR") or "podium-data")
    try:
        async with started(
            data_dir=data_dir,
            report=lambda name, what: print(f"{name}: {what}", flush=True),
        ) as suite:
            print(f"The dashboard is at {suite.dashboard} (Ctrl-C stops everything).", flush=True)
            await stopping.wait()
    except SuiteFailed as failed:
        print(failed, file=sys.stderr)
        return 1
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the suite and return the exit code."""
    asked = parser(specs(), "python -m services", "All services of Podium.")
    asked.add_argument(
        "--processes",
        action="store_true",
        help="run each service as a process of its own, started again when it dies; without: "
        "all in one process",
    )
    if not asked.parse_args(argv).processes:
        return main_together(specs(), [])
    try:
        load_all(specs(), os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    return asyncio.run(separate())


if __name__ == "__main__":
    sys.exit(main())
