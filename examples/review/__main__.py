"""`python -m examples.review`: wiring, options, signals, exit codes.

Exit codes: 0 the report is there and adds up; 1 it does not, or the job broke; 2 it could not
begin; 130 stopped before the report.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from examples.review.files import default_folders
from examples.review.fleet import AGENTS_MAX, AGENTS_MIN, PROFILES, FleetFailed
from examples.review.job import Options, Stalled, run
from examples.review.screen import Screen
from examples.review.suite import Refused
from podium.sdk.errors import PodiumError

WIDTH_WITHOUT_TERMINAL = 140
REPOSITORY = Path(__file__).resolve().parents[2]


def options_of(arguments: Sequence[str]) -> Options:
    """Reads the command line; ends the program when it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.review",
        description="Starts the whole suite and a small fleet of agents, has them review every "
        "file of a folder, and reports what was found and how the work went.",
    )
    parser.add_argument(
        "--dir",
        action="append",
        type=Path,
        metavar="FOLDER",
        help="folder to review; may be given several times (default: this repository and the "
        "sources of Python's standard library)",
    )
    parser.add_argument(
        "--agents",
        type=int,
        default=len(PROFILES),
        metavar="NUMBER",
        help=f"agents to start, {AGENTS_MIN} to {AGENTS_MAX} (default: %(default)s)",
    )
    parser.add_argument(
        "--once", action="store_true", help="stop after the report instead of staying up"
    )
    parser.add_argument(
        "--ports",
        choices=("default", "free"),
        default="default",
        help="the documented ports (7700 to 7705), or any that are free",
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=Path(os.environ.get("PODIUM_DATA_DIR") or "podium-data"),
        metavar="FOLDER",
        help="where logs, journal and report go (default: PODIUM_DATA_DIR, or podium-data); its "
        "folder `review` is emptied",
    )
    given = parser.parse_args(arguments)
    if not AGENTS_MIN <= given.agents <= AGENTS_MAX:
        parser.error(f"--agents is {AGENTS_MIN} to {AGENTS_MAX}, not {given.agents}")
    return Options(
        folders=given.dir or default_folders(REPOSITORY),
        agents=given.agents,
        once=given.once,
        ports=given.ports,
        data_dir=given.data_dir,
    )


async def _until_signal(options: Options, screen: Screen) -> int:
    """Runs the job; SIGINT and SIGTERM end it in order, a second one at once."""
    loop = asyncio.get_running_loop()
    job = asyncio.create_task(run(options, screen))
    stopping = False

    def stop() -> None:
        nonlocal stopping
        if stopping:
            os._exit(130)  # services and agents die with their parent
        stopping = True
        screen.say("Stopping agents and services; once more to stop at once.")
        job.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        return await job
    except asyncio.CancelledError:
        return 130


def main(arguments: Sequence[str]) -> int:
    """Runs the job and returns the exit code."""
    options = options_of(arguments)
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=WIDTH_WITHOUT_TERMINAL)
    screen = Screen(console, time.monotonic)
    try:
        return asyncio.run(_until_signal(options, screen))
    except Refused as error:
        screen.trouble(str(error))
        return 2
    except (FleetFailed, Stalled, PodiumError, ExceptionGroup) as error:
        for sentence in sentences(error):
            screen.trouble(sentence)
        return 1
    except KeyboardInterrupt:
        return 130


def sentences(error: Exception) -> list[str]:
    """Returns what to tell of an error, or of each error of a group.

    Raises:
        ExceptionGroup: one of them is a fault of this program; all are shown.
    """
    if not isinstance(error, ExceptionGroup):
        return [str(error)]
    _, faults = error.split((FleetFailed, Stalled, PodiumError))
    if faults is not None:
        raise error
    return [sentence for each in error.exceptions for sentence in sentences(each)]


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main(sys.argv[1:]))
