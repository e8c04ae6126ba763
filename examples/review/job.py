"""The job from its first line to its report."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from examples.review import asked, files, fleet, pieces, suite, written
from examples.review.checks.review import Review
from examples.review.figures import duration, size
from examples.review.found import Found
from examples.review.pieces import Piece
from examples.review.report import Ground, Report, agent_lines, report_of
from examples.review.screen import Board, Screen
from examples.review.tally import TYPES, Tally, faults, first_waits, outcome_of
from podium.sdk.client import Client
from podium.sdk.errors import TaskFailed
from podium.sdk.handle import TaskHandle
from podium.sdk.settings import Settings
from podium.sdk.specs import build
from podium.v1 import task_pb2
from services.suite import Ports, Suite

SUBMIT_AT_ONCE = 250
# So many go one by one before the rest, to measure how soon a free agent gets a task.
QUIET = 20
ATTEMPT_S_MAX = 60.0
AGENTS_S_MAX = 20.0
BREAKERS_EVERY_S = 0.5
STALL_S = 120.0
# The last events and results are on their way when the last task has ended.
SETTLE_S = 5.0


class Stalled(Exception):
    """Nothing has happened for too long; the message says what to look at."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller wants."""

    folders: Sequence[Path]
    agents: int
    once: bool
    ports: Ports
    data_dir: Path


@dataclass
class Job:
    """The state of one job."""

    options: Options
    screen: Screen
    board: Board
    found: Found = field(default_factory=Found)
    handles: dict[str, Piece] = field(default_factory=dict)
    reviewed: int = 0
    wall_s: float = 0.0
    quiet_ids: list[str] = field(default_factory=list)
    all_ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def tally(self) -> Tally:
        """What the log has told."""
        return self.board.tally

    def check_ends(self) -> None:
        """Notices when the log has told the end of every task."""
        if len(self.handles) == self.board.total and self.tally.ended >= self.board.total:
            if not outcome_of(self.tally, self.handles).lost:
                self.all_ended.set()


async def run(options: Options, screen: Screen) -> int:
    """Runs the job and returns the exit code.

    Raises:
        suite.Refused: it cannot begin.
        fleet.FleetFailed: all agents are gone.
        Stalled: nothing moves any more.
    """
    profiles = fleet.profiles(options.agents)
    job = Job(options, screen, Board(profiles, Tally()))
    suite.check_ports(options.ports)
    ground, to_do = await asyncio.to_thread(_read, options, screen)
    with suite.folder_of_its_own(options.data_dir) as folder:
        screen.step("Starting the suite, each service a process of its own")
        async with suite.started(folder, options.ports, screen) as running:
            names = ", ".join(profile.agent_id for profile in profiles[: len(fleet.PROFILES)])
            rest = "" if len(profiles) <= len(fleet.PROFILES) else " and namesakes"
            hosts = min(fleet.HOSTS, len(profiles))
            screen.step(f"Starting {len(profiles)} agents in {hosts} processes: {names}{rest}")
            log_dir = folder / "logs"
            async with fleet.started(profiles, log_dir=log_dir, environ=running.environ) as agents:
                settings = Settings.from_environment(running.environ)
                # Nothing here blocks the loop, so it may do gRPC itself.
                async with Client(settings, inline=True) as client:
                    await _agents_at_work(client, job, agents)
                    await _work(client, job, agents, to_do)
                    report = await _report(client, job, running, ground)
                _tell(job, report)
                if not options.once:
                    with contextlib.suppress(asyncio.CancelledError):  # the job itself is done
                        await _stay(job, running, agents)
    return 0 if report.reconciles else 1


def _read(options: Options, screen: Screen) -> tuple[Ground, list[Piece]]:
    names = [folder.resolve().name or "/" for folder in options.folders]
    screen.step(f"Reading {' and '.join(names)}")
    try:
        selection = files.select(options.folders)
    except OSError as error:
        raise suite.Refused(str(error)) from None
    to_do = list(pieces.pieces_of(selection.files))
    if not to_do:
        raise suite.Refused(f"There is nothing to review in {' and '.join(names)}.")
    told = f"{len(selection.files):,} files, {size(selection.total_bytes)}"
    screen.done(told, f"one task each, and bundles for what looks at all: {len(to_do):,} tasks")
    ground = Ground(names, len(selection.files), selection.total_bytes, selection.left_out)
    return ground, to_do


async def _agents_at_work(client: Client, job: Job, agents: fleet.Fleet) -> None:
    """Waits until the registry knows the agents, so that the first tasks find all of them."""
    wanted = {profile.agent_id for profile in agents.profiles}
    until_s = time.monotonic() + AGENTS_S_MAX
    while True:
        agents.check()
        known = await asked.breakers(client)
        if wanted <= known.keys():
            break
        if time.monotonic() > until_s:
            job.screen.trouble(f"  only {len(wanted & known.keys())} of {len(wanted)} came")
            break
        await asyncio.sleep(0.05)
    job.screen.done(f"{len(wanted & known.keys())} agents", "connected, each with its own skills")


async def _work(client: Client, job: Job, agents: fleet.Fleet, to_do: list[Piece]) -> None:
    """Submits everything and waits for its end."""
    job.board.total = len(to_do)
    job.screen.step(
        f"Reviewing: {len(to_do):,} tasks by priority, each to an agent that can do it. "
        "wobbly fails on purpose."
    )
    started_s = job.board.begun_s = time.monotonic()
    async with job.screen.showing(job.board), asyncio.TaskGroup() as group:
        [first] = await _submit(client, job, to_do[:1])
        aside = [
            group.create_task(_follow(client, job, first.cursor)),
            group.create_task(_watch_breakers(client, job)),
            group.create_task(_guard(job, agents)),
        ]
        await _collect(job, first)
        for piece in to_do[1:QUIET]:
            [handle] = await _submit(client, job, [piece])
            await _collect(job, handle)
        job.quiet_ids = list(job.handles)
        results = []
        for start in range(QUIET, len(to_do), SUBMIT_AT_ONCE):
            for handle in await _submit(client, job, to_do[start : start + SUBMIT_AT_ONCE]):
                results.append(group.create_task(_collect(job, handle)))
        await asyncio.gather(*results)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                await job.all_ended.wait()
        job.wall_s = time.monotonic() - started_s
        for task in aside:
            task.cancel()


async def _submit(client: Client, job: Job, batch: Sequence[Piece]) -> list[TaskHandle]:
    handles = await client.submit_many([_spec(piece) for piece in batch])
    for handle, piece in zip(handles, batch, strict=True):
        job.handles[handle.task_id] = piece
    job.board.submitted += len(batch)
    job.check_ends()
    return handles


def _spec(piece: Piece) -> task_pb2.TaskSpec:
    payload = task_pb2.Payload(content_type=piece.content_type, data=piece.data)
    return build(
        piece.kind,
        payload,
        {
            "priority": piece.priority,
            "labels": {"job": "review", **piece.labels},
            "size_hint": piece.size_hint,
            "attempt_timeout_s": ATTEMPT_S_MAX,
        },
    )


async def _collect(job: Job, handle: TaskHandle) -> None:
    try:
        value = await handle.result()
    except TaskFailed:
        return  # the log tells who failed it and why
    piece = job.handles[handle.task_id]
    job.found.add(piece.kind, piece.labels["path"], Review.from_json(value))
    job.reviewed += 1


async def _follow(client: Client, job: Job, cursor: str) -> None:
    async for event in client.watch(types=TYPES, cursor=cursor):
        job.tally.note(event, time.monotonic())
        job.check_ends()


async def _watch_breakers(client: Client, job: Job) -> None:
    while True:
        job.board.note_breakers(await asked.breakers(client))
        await asyncio.sleep(BREAKERS_EVERY_S)


async def _guard(job: Job, agents: fleet.Fleet) -> None:
    """Ends the job when it cannot end by itself."""
    last, since_s = -1, time.monotonic()
    while True:
        await asyncio.sleep(1.0)
        agents.check()
        now_s = time.monotonic()
        seen = job.tally.ended + job.reviewed + job.tally.counts["attempts"]
        if seen != last:
            last, since_s = seen, now_s
        elif now_s - since_s > STALL_S:
            left = job.board.submitted - job.reviewed
            raise Stalled(
                f"Nothing has happened for {STALL_S:.0f} s and {left} tasks are open. The logs in "
                f"{agents.log_dir} tell more."
            )


async def _report(client: Client, job: Job, running: Suite, ground: Ground) -> Report:
    job.board.note_breakers(await asked.breakers(client))
    report = report_of(
        ground,
        outcome_of(job.tally, job.handles),
        first_waits(job.tally, job.quiet_ids),
        faults(job.tally, job.handles, job.reviewed),
        job.found,
        agent_lines(job.board.fleet, job.tally, job.board.breakers),
        job.wall_s,
    )
    report.breaker_openings = dict(job.board.openings)
    report.dashboard = running.dashboard
    task_id = asked.most_retried(job.tally, job.handles)
    if task_id is not None:
        path = job.handles[task_id].labels["path"]
        report.retried = await asked.retried(client, job.tally, task_id, path)
    address = running.addresses["ml_router"]
    report.model_version, report.learned = await asked.learned(address, job.board.fleet)
    return report


def _tell(job: Job, report: Report) -> None:
    screen = job.screen
    written.show(report, screen.console)
    for_programs, for_people = written.write(report, job.options.data_dir)
    screen.say("")
    outcome = report.outcome
    if report.reconciles:
        completed, failed = outcome.ends.get("completed", 0), outcome.ends.get("failed", 0)
        told = f"{outcome.submitted:,} submitted = {completed:,} completed + {failed:,} failed"
        screen.done("All accounted for", f"{told}, in {duration(report.wall_s)}")
    screen.done("Written down", f"{for_people} and {for_programs.name}")


async def _stay(job: Job, running: Suite, agents: fleet.Fleet) -> None:
    screen = job.screen
    screen.say("")
    screen.say(f"Dashboard  {running.dashboard}", "bold")
    screen.say("The suite and its agents stay up. Ask them something from another terminal:")
    if job.options.ports == "free":
        addresses = running.addresses.items()
        told = (f"PODIUM_{name.upper()}_ADDRESS={address}" for name, address in addresses)
        screen.say(f"  export {' '.join(told)}", "cyan")
    task_id = asked.most_retried(job.tally, job.handles) or next(iter(job.handles))
    for question in ("stats", "agents", f"why {task_id}", f"trace {task_id}"):
        screen.say(f"  {_command_line()} {question}", "cyan")
    screen.say("Ctrl-C stops everything.", "dim")
    lost = 0
    while True:
        await asyncio.sleep(0.5)
        if agents.lost != lost:
            lost = agents.lost
            screen.trouble(f"A process of agents has ended; its log is in {agents.log_dir}.")


def _command_line() -> str:
    """Returns how `podium` is called from here: by its path unless it is on the search path."""
    installed = Path(sys.executable).with_name("podium")
    if shutil.which("podium") or not installed.exists():
        return "podium"
    return os.path.relpath(installed)
