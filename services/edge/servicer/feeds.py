"""Watches of the services, one for all connections that watch the same.

A hundred dashboards follow the same agents and the same windows. What they follow is asked for,
decoded and encoded once; who comes later begins with what the watch has told so far, folded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Protocol

from podium.v1.agent_pb2 import Agent
from podium.v1.analytics_pb2 import Window
from podium.v1.bridge_pb2 import BridgeRequest, BridgeResponse
from services.edge.ports import Peers
from services.edge.servicer import overview
from services.edge.servicer.merging import Update
from services.kernel.clock import Clock
from services.kernel.errors import Internal, PodiumError, Unavailable

log = logging.getLogger("podium.edge.feeds")

Key = tuple[str, bytes, str]
"""Kind of watch, what is asked, and the token: nobody sees more than his own token lets him."""


class Fold(Protocol):
    """What a watch has told so far, as one update."""

    def take(self, response: BridgeResponse) -> None:
        """Take in an update."""
        ...

    def told(self) -> BridgeResponse | None:
        """Return all of it; None when there is nothing yet."""
        ...


class AgentFold:
    """The agents as they are."""

    def __init__(self, request: BridgeRequest) -> None:
        self._agents: dict[str, Agent] = {}
        self._caught_up = False

    def take(self, response: BridgeResponse) -> None:
        """Take in changes of agents."""
        change = response.agents
        for agent_id in change.removed_agent_ids:
            self._agents.pop(agent_id, None)
        for agent in change.agents:
            self._agents[agent.agent_id] = agent
        self._caught_up = self._caught_up or change.caught_up

    def told(self) -> BridgeResponse | None:
        """Return all agents."""
        if not self._agents and not self._caught_up:
            return None
        told = BridgeResponse()
        told.agents.agents.extend(self._agents.values())
        told.agents.caught_up = self._caught_up
        return told


class WindowFold:
    """The last windows, as many as were asked for."""

    def __init__(self, request: BridgeRequest) -> None:
        self._windows: dict[int, Window] = {}
        self._len_max = max(request.watch_windows.count, 1) + 1

    def take(self, response: BridgeResponse) -> None:
        """Take in new and changed windows."""
        for window in response.windows.windows:
            self._windows[window.start_time.seconds] = window
        for start in sorted(self._windows)[: -self._len_max]:
            del self._windows[start]

    def told(self) -> BridgeResponse | None:
        """Return the windows, oldest first."""
        if not self._windows:
            return None
        told = BridgeResponse()
        told.windows.windows.extend(self._windows[start] for start in sorted(self._windows))
        return told


_FOLDS: dict[str, Callable[[BridgeRequest], Fold]] = {
    "watch_agents": AgentFold,
    "watch_windows": WindowFold,
    overview.arm: overview.OverviewFold,
}


class Reader:
    """One connection's place at a feed; updates that it has not taken yet are merged."""

    def __init__(self) -> None:
        self._waiting: Update | None = None
        self._error: PodiumError | None = None
        self._wake = asyncio.Event()

    def give(self, update: Update) -> None:
        """Let the reader have an update."""
        self._waiting = update if self._waiting is None else self._waiting.taking_in(update)
        self._wake.set()

    def fail(self, error: PodiumError) -> None:
        """Let the reader know that nothing comes after what it has."""
        self._error = error
        self._wake.set()

    async def next(self) -> Update:
        """Return what is new; raise a PodiumError after the last."""
        while self._waiting is None:
            if self._error is not None:
                raise self._error
            self._wake.clear()
            await self._wake.wait()
        update, self._waiting = self._waiting, None
        return update


class _Feed:
    def __init__(self, key: Key, fold: Fold, lonely_len_max: int) -> None:
        self.key = key
        self.fold = fold
        self.readers: set[Reader] = set()
        self.kept = False
        """Whether it goes on though nobody reads it."""
        self._lonely_len_max = lonely_len_max
        self._lonely = 0
        self._task: asyncio.Task[None] | None = None
        self._snapshot: Update | None = None

    def run(self, work: Coroutine[None, None, None]) -> None:
        self._task = asyncio.create_task(work)

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def join(self) -> Reader:
        reader = Reader()
        if self._snapshot is None:
            told = self.fold.told()
            self._snapshot = None if told is None else Update(told)
        if self._snapshot is not None:
            reader.give(self._snapshot)
        self.readers.add(reader)
        return reader

    def tell(self, response: BridgeResponse) -> None:
        self._snapshot = None
        self.fold.take(response)
        update = Update(response)
        for reader in self.readers:
            reader.give(update)
        self._lonely = 0 if self.readers or self.kept else self._lonely + 1

    @property
    def over(self) -> bool:
        """Whether nobody has read it for so long that it need not go on."""
        return not (self.readers or self.kept) and self._lonely >= self._lonely_len_max


class Feeds:
    """All watches of a bridge."""

    def __init__(self, peers: Peers, clock: Clock) -> None:
        self._peers = peers
        self._clock = clock
        self._feeds: dict[Key, _Feed] = {}

    def __len__(self) -> int:
        return len(self._feeds)

    def watches(self, arm: str) -> bool:
        """Tell whether requests of this kind are answered again and again."""
        return arm == overview.arm or self._peers.watches(arm)

    async def keep(self, requests: Iterable[tuple[str, BridgeRequest]]) -> None:
        """Let watches that need no token go on, read or not; ends all watches when it is ended."""
        for arm, request in requests:
            self._feed(arm, request, "").kept = True
        try:
            await asyncio.Event().wait()
        finally:
            for feed in self._feeds.values():
                feed.stop()

    async def follow(self, arm: str, request: BridgeRequest, token: str) -> AsyncIterator[Update]:
        """Yield what a watch tells; raise a PodiumError when it has ended."""
        if arm not in _FOLDS:
            # Each of these begins at a cursor of its own.
            async for response in self._peers.watch(arm, request, token):
                yield Update(response)
            return
        feed = self._feed(arm, request, token)
        reader = feed.join()
        try:
            while True:
                yield await reader.next()
        finally:
            feed.readers.discard(reader)
            if feed.over:
                self._forget(feed)
                feed.stop()

    def _feed(self, arm: str, request: BridgeRequest, token: str) -> _Feed:
        key = (arm, getattr(request, arm).SerializeToString(deterministic=True), token)
        feed = self._feeds.get(key)
        if feed is None:
            lonely = overview.lonely_len_max if arm == overview.arm else 0
            feed = self._feeds[key] = _Feed(key, _FOLDS[arm](request), lonely)
            feed.run(self._run(feed, request))
        return feed

    def _forget(self, feed: _Feed) -> None:
        if self._feeds.get(feed.key) is feed:
            del self._feeds[feed.key]

    def _source(self, feed: _Feed, request: BridgeRequest) -> AsyncIterator[BridgeResponse]:
        arm, _, token = feed.key
        if arm == overview.arm:
            return overview.sampled(self._peers, self._clock, token, lambda: bool(feed.readers))
        return self._peers.watch(arm, request, token)

    async def _run(self, feed: _Feed, request: BridgeRequest) -> None:
        error: PodiumError = ended()
        try:
            async for response in self._source(feed, request):
                feed.tell(response)
                if feed.over:
                    break
        except PodiumError as raised:
            error = raised
        except Exception:
            log.exception("a watch failed unexpectedly", extra={"arm": feed.key[0]})
            error = Internal("INTERNAL", "internal error")
        self._forget(feed)
        for reader in feed.readers:
            reader.fail(error)


def ended() -> Unavailable:
    """Return what a reader is told when a watch ends without an error."""
    return Unavailable("WATCH_ENDED", "The watch has ended; watch again.", retry_after_s=1.0)
