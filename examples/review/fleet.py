"""The agents of the job: who can do what, how they behave, and the processes they live in."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

Temper = Literal["steady", "close", "flaky"]

HOSTS = 3
CAPACITY = 2
AGENTS_MAX = 100
STOP_S = 15.0
LOG_TAIL_LINES = 12
PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True, slots=True)
class Profile:
    """What an agent is like.

    Attributes:
        agent_id: who it is.
        skills: what it can do, with how good it says it is.
        temper: steady; close = slow and precise; flaky = fails most attempts on purpose.
        about: what people are told about it.
    """

    agent_id: str
    skills: dict[str, float]
    about: str
    temper: Temper = "steady"


# The first four can do everything there is to do, so a fleet has at least four.
PROFILES = (
    Profile(
        "ada",
        {"python.review": 0.92, "config.check": 0.8, "text.analyze": 0.7},
        "reads programs first of all",
    ),
    Profile(
        "wobbly",
        {"python.review": 1.0, "text.analyze": 1.0, "config.check": 1.0},
        "boasts, and fails 7 of 10, on purpose",
        "flaky",
    ),
    Profile(
        "ledger",
        {"table.profile": 0.95, "config.check": 0.9, "text.analyze": 0.8},
        "knows tables and settings",
    ),
    Profile(
        "echo",
        {"duplicates.digest": 0.95, "secrets.scan": 0.85},
        "remembers what it has seen before",
    ),
    Profile(
        "sage",
        {"python.review": 0.99},
        "slow and precise: asks the compiler too",
        "close",
    ),
    Profile("grace", {"python.review": 0.9}, "reads programs and nothing else"),
    Profile("quill", {"text.analyze": 0.95, "table.profile": 0.6}, "reads prose"),
    Profile("scout", {"secrets.scan": 0.95, "config.check": 0.85}, "looks for leaks"),
    Profile("linus", {"python.review": 0.85, "duplicates.digest": 0.8}, "reads programs quickly"),
    Profile("edsger", {"python.review": 0.88, "secrets.scan": 0.7}, "reads programs with doubt"),
)
AGENTS_MIN = 4


def profiles(count: int) -> list[Profile]:
    """Returns that many agents; beyond ten they are namesakes of the first."""
    repeated = (PROFILES[index % len(PROFILES)] for index in range(count))
    return [
        profile
        if index < len(PROFILES)
        else replace(profile, agent_id=f"{profile.agent_id}-{index // len(PROFILES) + 1}")
        for index, profile in enumerate(repeated)
    ]


def shared_out(fleet: Sequence[Profile], hosts: int = HOSTS) -> list[list[Profile]]:
    """Returns who lives in which process: dealt out like cards."""
    return [list(fleet[index::hosts]) for index in range(min(hosts, len(fleet)))]


class FleetFailed(Exception):
    """No process of agents is left; the message says where to read why."""


@dataclass
class Fleet:
    """The processes of the agents.

    Attributes:
        profiles: all agents.
        processes: one for each group of agents.
    """

    profiles: list[Profile]
    log_dir: Path
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Processes that ended by themselves."""
        return sum(process.returncode is not None for process in self.processes)

    def check(self) -> None:
        """Raises FleetFailed when nobody is left to work."""
        if self.processes and self.lost == len(self.processes):
            path = log_of(self.log_dir, 1)
            tail = path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
            said = "\n  ".join([f"All agents are gone. The log, {path}, ends with:", *tail])
            raise FleetFailed(said)


def log_of(log_dir: Path, number: int) -> Path:
    """Returns the log of one process of agents."""
    return log_dir / f"agents-{number}.log"


@asynccontextmanager
async def started(
    fleet: Sequence[Profile], *, log_dir: Path, environ: Mapping[str, str]
) -> AsyncIterator[Fleet]:
    """Runs agents in processes of their own until the block ends.

    Args:
        fleet: who.
        log_dir: where the processes say what they do.
        environ: where the suite is, `PODIUM_*`.
    """
    running = Fleet(list(fleet), log_dir)
    try:
        for number, group in enumerate(shared_out(fleet), 1):
            with log_of(log_dir, number).open("ab") as log:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "examples.review.host",
                    *(profile.agent_id for profile in group),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **environ},
                    start_new_session=True,  # Ctrl-C reaches the job, which stops in order
                    preexec_fn=_die_with_parent,
                )
            running.processes.append(process)
        yield running
    finally:
        await asyncio.gather(*(_end(process) for process in running.processes))


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _die_with_parent() -> None:
    # A killed job must not leave agents behind that dial for ever.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
