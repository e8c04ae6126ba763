"""What people see while the job runs: a live board on a terminal, a calm line elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from examples.review.figures import Latency, duration
from examples.review.fleet import CAPACITY, Profile
from examples.review.tally import Tally
from examples.review.written import STYLES

REFRESH_S = 0.2
LINE_EVERY_S = 3.0
BAR_WIDTH = 28
NARROW_BAR_WIDTH = 12
NARROW_COLUMNS = 110

Clock = Callable[[], float]


@dataclass
class Board:
    """What the screen shows of the job.

    Attributes:
        total: tasks there are.
        submitted: tasks the scheduler has taken.
        begun_s: when the first was submitted, on the clock of the screen.
        breakers: state of each agent's circuit breaker.
        openings: how often each was seen to open.
    """

    fleet: Sequence[Profile]
    tally: Tally
    total: int = 0
    submitted: int = 0
    begun_s: float = 0.0
    breakers: dict[str, str] = field(default_factory=dict)
    openings: dict[str, int] = field(default_factory=dict)

    def note_breakers(self, states: Mapping[str, str]) -> None:
        """Takes the states of the breakers, and counts those that opened."""
        for agent_id, state in states.items():
            if state == "open" and self.breakers.get(agent_id, "closed") != "open":
                self.openings[agent_id] = self.openings.get(agent_id, 0) + 1
            self.breakers[agent_id] = state


class Screen:
    """Prints to a terminal, or to a file or pipe."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self.console = console
        self._clock = clock

    def say(self, text: str, style: str = "") -> None:
        """Prints one line, which the terminal may wrap; what comes out of files is no markup."""
        self.console.print(Text(text, style=style), soft_wrap=True)

    def step(self, text: str) -> None:
        """Prints what happens next."""
        self.console.print(Text.assemble(("▸ ", "cyan"), text))

    def done(self, name: str, about: str) -> None:
        """Prints that something is ready."""
        self.console.print(Text.assemble(("  ✓ ", "green"), f"{name:<16} ", (about, "dim")))

    def trouble(self, text: str) -> None:
        """Prints what went wrong and what to do."""
        self.console.print(Text(text, style="bold red"), soft_wrap=True)

    @asynccontextmanager
    async def showing(self, board: Board) -> AsyncIterator[None]:
        """Shows the board until the block ends."""
        show = self._live if self.console.is_terminal else self._lines
        task = asyncio.create_task(show(board))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _live(self, board: Board) -> None:
        with Live(console=self.console, auto_refresh=False, transient=True) as live:
            while True:
                live.update(picture(board, self._clock(), self.console.width), refresh=True)
                await asyncio.sleep(REFRESH_S)

    async def _lines(self, board: Board) -> None:
        while True:
            await asyncio.sleep(LINE_EVERY_S)
            self.say(f"  {line(board, self._clock())}")


def line(board: Board, now_s: float) -> str:
    """Says in one line how far the job is."""
    tally = board.tally
    parts = [
        f"{tally.ended:,} of {board.total:,} tasks",
        f"{tally.rate(now_s):.0f} a second",
        f"{tally.running} running",
        f"{tally.counts['retries']} retries",
    ]
    if failed := tally.ended - tally.counts["completed"]:
        parts.append(f"{failed} failed")
    if out := [name for name, state in sorted(board.breakers.items()) if state == "open"]:
        parts.append(f"breaker open: {', '.join(out)}")
    return ", ".join(parts)


def picture(board: Board, now_s: float, width: int) -> RenderableType:
    """Draws the board for a screen so many columns wide."""
    return Group(Text(), _progress(board, now_s), Text(), _agents(board, width < NARROW_COLUMNS))


def _progress(board: Board, now_s: float) -> RenderableType:
    tally = board.tally
    bar = Table.grid()
    bar.add_row(
        ProgressBar(
            total=max(1, board.total),
            completed=tally.ended,
            width=60,
            complete_style="cyan",
            finished_style="green",
        )
    )
    left = board.total - tally.ended
    rate = tally.rate(now_s)
    head = [
        f"{tally.ended:,} of {board.total:,} tasks",
        f"{rate:.0f} a second",
        duration(now_s - board.begun_s),
    ]
    if rate and left:
        head.append(f"about {duration(left / rate)} left")
    waits = Latency.of(list(tally.waits_s))
    runs = Latency.of([s for agent in tally.agents.values() for s in agent.runs_s[-100:]])
    waiting = board.submitted - tally.ended - tally.running
    rest = [
        f"{max(0, waiting):,} waiting",
        f"{tally.running} running",
        f"{tally.counts['retries']} retries",
        f"{tally.ended - tally.counts['completed']} failed",
    ]
    if waits.count:
        rest.append(f"waited p50 {duration(waits.p50_s)}")
    if runs.count:
        rest.append(f"run p50 {duration(runs.p50_s)}, p99 {duration(runs.p99_s)}")
    lines = (Text(" · ".join(head)), Text(" · ".join(rest), style="dim"))
    return Padding(Group(bar, *lines), (0, 0, 0, 2))


def _agents(board: Board, narrow: bool) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", show_edge=False)
    table.add_column("agent", no_wrap=True)
    if not narrow:
        table.add_column("", no_wrap=True, style="dim")
    table.add_column("now", min_width=2 * CAPACITY, no_wrap=True)
    table.add_column("done", no_wrap=True)
    table.add_column("failed", justify="right", no_wrap=True)
    table.add_column("mean", justify="right", no_wrap=True)
    table.add_column("breaker", no_wrap=True)
    most = max((agent.started for agent in board.tally.agents.values()), default=1)
    for profile in board.fleet:
        did = board.tally.agent(profile.agent_id)
        breaker = board.breakers.get(profile.agent_id, "closed")
        about = () if narrow else (profile.about,)
        table.add_row(
            profile.agent_id,
            *about,
            Text("●" * min(did.running, 2 * CAPACITY), style="cyan"),
            _bar(did.completed, did.failed, most, NARROW_BAR_WIDTH if narrow else BAR_WIDTH),
            Text(f"{did.failed:,}" if did.failed else "", style="red"),
            duration(did.mean_s) if did.completed else "",
            Text(breaker, style=STYLES.get(breaker, "")),
        )
    return Padding(table, (0, 0, 0, 2))


def _bar(completed: int, failed: int, most: int, width: int) -> Text:
    good = round(completed / max(1, most) * width)
    bad = min(width - good, round(failed / max(1, most) * width) or min(1, failed))
    return Text.assemble(("━" * good, "green"), ("━" * bad, "red"), f" {completed:,}")
