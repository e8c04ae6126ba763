"""The only module that reads the time; everybody else is handed an `Instant` or a `Clock`."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from typing import Protocol

from services.kernel.instant import Instant


class Clock(Protocol):
    """What a shell needs of time."""

    def now(self) -> Instant:
        """Return the current moment."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return when `seconds` have passed on this clock."""
        ...


class SystemClock:
    """The clocks of the machine."""

    def now(self) -> Instant:
        """Return the current moment."""
        return Instant(time.monotonic(), time.time_ns() // 1_000_000)

    async def sleep(self, seconds: float) -> None:
        """Return when `seconds` have passed."""
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock that stands still until a test advances it."""

    def __init__(self, mono_s: float = 1_000.0, wall_ms: int = 1_700_000_000_000) -> None:
        self._mono_s = mono_s
        self._wall_ms = float(wall_ms)
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._arrival: asyncio.Future[None] | None = None

    def now(self) -> Instant:
        """Return the moment the test has set."""
        return Instant(self._mono_s, round(self._wall_ms))

    async def sleep(self, seconds: float) -> None:
        """Return when the test has advanced this clock by `seconds`."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waiter = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._mono_s + seconds, next(self._order), waiter))
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
        await waiter

    async def advance(self, seconds: float) -> None:
        """Move on by `seconds`, waking sleepers in order, each at its own moment.

        A sleeper that goes to sleep again inside the span is woken again inside it.
        """
        end_s = self._mono_s + seconds
        await _settle()
        while self._sleepers and self._sleepers[0][0] <= end_s:
            due_s, _, waiter = heapq.heappop(self._sleepers)
            self._move_to(max(due_s, self._mono_s))
            if not waiter.done():
                waiter.set_result(None)
            await _settle()
        self._move_to(end_s)

    async def sleepers(self, count: int = 1) -> None:
        """Return when at least `count` tasks sleep on this clock."""
        while sum(not waiter.done() for _, _, waiter in self._sleepers) < count:
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival

    def set_wall(self, wall_ms: int) -> None:
        """Let the wall clock jump, as a machine's does; the monotonic clock stays."""
        self._wall_ms = float(wall_ms)

    def _move_to(self, mono_s: float) -> None:
        self._wall_ms += (mono_s - self._mono_s) * 1_000
        self._mono_s = mono_s


async def _settle() -> None:
    # A woken task may pass work on through a few futures before it sleeps again; ten turns of the
    # loop let such a chain run to its end without depending on real time.
    for _ in range(10):
        await asyncio.sleep(0)
