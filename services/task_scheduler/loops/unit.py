"""All that serves one partition for as long as this replica owns it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from services.task_scheduler.loops.commit import Committer
from services.task_scheduler.ports import Store


class Unit:
    """A core with its log, its loops and its servicer.

    Args:
        servicer: Answers calls about the partition.
        committer: The loop that commits.
        journal: The log.
        beside: What runs beside the commit loop.
        ends: Called at the end, so that streams end and their peers go on elsewhere.
    """

    def __init__(
        self,
        servicer: Any,
        committer: Committer,
        journal: Store,
        beside: Sequence[Callable[[], Coroutine[Any, Any, None]]],
        ends: Sequence[Callable[[], None]],
    ) -> None:
        self.servicer = servicer
        self.committer = committer
        self._journal = journal
        self._beside = beside
        self._ends = ends
        self._loops: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Work until cancelled; raise when the log is lost or fails."""
        work = [self.committer.run(), *(run() for run in self._beside)]
        self._loops = [asyncio.create_task(each) for each in work]
        done, _ = await asyncio.wait(self._loops, return_when=asyncio.FIRST_COMPLETED)
        for loop in done:
            loop.result()

    async def close(self) -> None:
        """End what is left of the work, and let go of the log."""
        self.committer.retire()
        self.end_streams()
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self._journal.close()

    async def drain(self) -> None:
        """Take nothing more in, and return when what was taken in is durable."""
        await self.committer.drain()
        self.end_streams()

    def end_streams(self) -> None:
        """End all streams: who follows or works on goes on elsewhere."""
        for end in self._ends:
            end()
