"""Follows somebody else's ordered stream, forever: whatever breaks, it resumes where it stood."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterable, Callable
from typing import Generic, Protocol, TypeVar

import grpc
import grpc.aio

from services.kernel.clock import Clock
from services.kernel.errors import PodiumError
from services.kernel.rpc import from_rpc_error

log = logging.getLogger("podium.kernel.follow")

backoff_s_min = 0.1
backoff_s_max = 5.0

# Reasons with which a source refuses a position: what was there is gone, or never was.
_COMPACTED = "CURSOR_COMPACTED"
_UNKNOWN = "CURSOR_INVALID"


class Batch(Protocol):
    """One message of the stream."""

    @property
    def cursor(self) -> str:
        """Where to resume after this message."""

    @property
    def caught_up(self) -> bool:
        """Whether there is nothing more at the moment."""


B = TypeVar("B", bound=Batch)


class Follower(Generic[B]):
    """Reads batches and hands each to `take`, once and in order.

    Args:
        source: What is followed, for messages to people.
        open: Opens the stream after a cursor; empty means from the start of what is kept.
        take: Takes a batch in. What it raises is a bug and ends the follower.
        begin_anew: Told that the source is another one than the cursor is from, so that nothing
            learned from it holds; what follows starts at the beginning. When the source merely no
            longer keeps the position it is not called: what follows then overlaps or has a gap.
        clock: Its time.
        cursor: Where to begin.
    """

    def __init__(
        self,
        source: str,
        open: Callable[[str], AsyncIterable[B]],
        take: Callable[[B], None],
        begin_anew: Callable[[], None],
        *,
        clock: Clock,
        cursor: str = "",
    ) -> None:
        self._source = source
        self._open = open
        self._take = take
        self._begin_anew = begin_anew
        self._clock = clock
        self._failures = 0
        self.cursor = cursor
        self.caught_up = False
        """Whether everything there was had been read at some point since the start."""
        self.at_end = False
        """Whether the stream runs and there was nothing more when it was last heard."""
        self.connected = False
        """Whether the last thing heard from the source was no failure."""
        self.trouble = f"{source} has not been reached yet"
        """What is wrong, for people; empty while the stream runs."""

    async def run(self) -> None:
        """Follow until cancelled."""
        task = asyncio.current_task()
        while True:
            try:
                async for batch in self._open(self.cursor):
                    self._take(batch)
                    self._heard(batch)
                    # A source in the same process may have the next one ready: let others run.
                    await asyncio.sleep(0)
                self._lost("it ended the stream")
            except grpc.aio.AioRpcError as error:
                self._refused(from_rpc_error(error))
            if task is not None and task.cancelling():
                # A stream that ends in the moment of a cancel may keep it to itself.
                raise asyncio.CancelledError
            await self._clock.sleep(self._backoff_s())

    def _heard(self, batch: B) -> None:
        self.cursor = batch.cursor or self.cursor
        self.at_end = batch.caught_up
        self.caught_up = self.caught_up or batch.caught_up
        self._failures = 0
        self.connected = True
        if self.trouble:
            log.info("%s is being followed", self._source)
            self.trouble = ""

    def _refused(self, error: PodiumError) -> None:
        if self.cursor and error.reason in (_COMPACTED, _UNKNOWN):
            if error.reason == _UNKNOWN:
                self._begin_anew()
            log.warning("%s is read from its start: %s", self._source, error.message)
            self.cursor = ""
        self._lost(error.message)

    def _lost(self, why: str) -> None:
        if self.connected or not self._failures:
            log.warning(
                "%s cannot be followed, trying again; does it run there? %s", self._source, why
            )
        self._failures += 1
        self.at_end = self.connected = False
        self.trouble = f"{self._source} cannot be followed: {why}"

    def _backoff_s(self) -> float:
        # Full jitter from the first failure on: many followers lose one source together.
        ceiling = min(backoff_s_max, backoff_s_min * 2.0 ** min(self._failures, 10))
        return random.uniform(backoff_s_min / 2.0, ceiling)
