"""The suite under the job: its ports are free, its folder is its own, it starts and says so."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from examples.review.screen import Screen
from services import suite

ABOUT = {
    "task_scheduler": "keeps every task durable and in order",
    "agent_registry": "knows who is there and how healthy they are",
    "routing": "picks the agent for each task",
    "ml_router": "learns who is good at what",
    "analytics": "counts in windows and keeps the traces",
    "edge": "serves the dashboard and browsers",
}
METRICS_OFFSET = 100


class Refused(Exception):
    """The job cannot begin; the message says why and what to do."""


@contextmanager
def folder_of_its_own(data_dir: Path) -> Iterator[Path]:
    """Gives an empty folder below the data folder: every job begins with an empty log.

    Raises:
        Refused: another job is using it, or it cannot be written.
    """
    folder = data_dir / "review"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = (data_dir / "review.lock").open("w")
    except OSError as error:
        raise Refused(f"Cannot write to {data_dir}: {error.strerror}.") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(
                f"Another review is using {data_dir}. Stop it first, or choose another folder with "
                "--data-dir."
            ) from None
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield folder


def check_ports(ports: suite.Ports) -> None:
    """Looks whether the suite can have its ports.

    Raises:
        Refused: one of them is taken.
    """
    if ports == "free":
        return
    for name, port in suite.chosen_ports(os.environ).items():
        wanted = (port,) if name == "edge" else (port, port + METRICS_OFFSET)
        for number in wanted:
            with contextlib.closing(socket.socket()) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", number))
                except OSError:
                    raise Refused(
                        f"Port {number}, which {name} needs, is taken; perhaps the suite is "
                        "running already. Stop it, or run "
                        "`python -m examples.review --ports free`."
                    ) from None


@asynccontextmanager
async def started(folder: Path, ports: suite.Ports, screen: Screen) -> AsyncIterator[suite.Suite]:
    """Runs the suite until the block ends, and tells of each service as it comes up.

    Raises:
        Refused: a service did not come up.
    """
    ready: set[str] = set()

    def report(name: str, what: str) -> None:
        if what == "ready" and name not in ready:
            ready.add(name)
            screen.done(name, ABOUT.get(name, ""))
        elif what not in ("ready", "stopped"):
            screen.trouble(f"  {name} {what}")

    try:
        async with suite.started(data_dir=folder, ports=ports, report=report) as running:
            yield running
    except suite.SuiteFailed as error:
        raise Refused(str(error)) from None
