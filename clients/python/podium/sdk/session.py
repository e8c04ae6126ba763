"""The session of one agent or many with a router: one stream, held open for ever.

Lives on the wire's loop and never runs a handler. Leases survive a lost stream: each new one begins
with the list of what is still in work, and results are kept and repeated until they are settled.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from podium.sdk.acks import HeldAcks
from podium.sdk.backoff import Backoff, after
from podium.sdk.conversation import Conversation, Outgoing, Received, is_bulk
from podium.sdk.errors import InvalidArgument, Peer, PodiumError, ResourceExhausted
from podium.sdk.fallback import report_unary
from podium.sdk.identity import Identity
from podium.sdk.link import Frames, Link, knock
from podium.v1 import session_pb2

log = logging.getLogger("podium.sdk.session")

READY_S_MAX = 10.0
FALLBACK_AFTER_S = 10.0
FRESH_CONNECTION_AFTER = 3
PROGRESS_LEN_MAX = 4_096
BULK_LEN_MAX = 64
GOODBYE_S_MAX = 1.0
CALM_S = 60.0
# Between tries where nobody answers: as long may a fleet stay away from a router that is back.
NOBODY_S_MAX = 1.0

Deliver = Callable[[list[session_pb2.RouterFrame]], None]
"""Takes the frames that concern work, in order; a lost lease comes as a Cancel too."""


class Session:
    """Speaks for agents with a router.

    Args:
        identities: the agents.
        peer: the router; several with commas between, of which one that answers is taken.
        deliver: is given Assign, Cancel and Input, and RenewAck of what was asked.
        metadata: returns what goes with a call that begins now.
        own_connection: share no connection with other sessions of the process.
    """

    def __init__(
        self,
        identities: Iterable[Identity],
        peer: Peer,
        deliver: Deliver,
        *,
        metadata: Callable[[], tuple[tuple[str, str], ...]] = tuple,
        own_connection: bool = False,
        backoff: Backoff | None = None,
    ) -> None:
        self.talk = Conversation(identities)
        self._peer = peer
        self._deliver = deliver
        self._metadata = metadata
        self._own_connection = own_connection
        self._backoff = backoff or Backoff()
        # Of streams that are lost soon after they were open.
        self._losses = copy.copy(self._backoff)
        # Of each agent whose session was closed on a stream that stays: how long it waits, and
        # when that was last.
        self._waits: dict[str, tuple[Backoff, float]] = {}
        self._link: Link | None = None
        # How long a router has asked to stay away, when it ended the last stream.
        self._away_s = 0.0
        # Whether the last try found nobody there.
        self._nobody = False
        # Which of several routers is tried: the first by lot, so that a fleet spreads over them.
        self._turn = random.randrange(1 << 16)
        # Work for agents that were accepted before the others on their stream: what they said of
        # it would have no way out yet.
        self._early: list[session_pb2.RouterFrame] = []
        self._acks = HeldAcks()
        self._move_to = ""
        self._moving = asyncio.Event()
        self._tuned = asyncio.Event()
        self._settled = asyncio.Event()
        self._stopped = asyncio.Event()
        self.ready = asyncio.Event()
        self.connect_count = 0

    @property
    def connected(self) -> bool:
        """Whether a router has accepted the agents on a stream that is open."""
        return self._link is not None and self._link.open

    def send(self, items: Sequence[Outgoing]) -> None:
        """Sends frames of the agents. Without a stream nothing is lost: see Hello and `results`."""
        link = self._link
        queued_len = len(link.outbox) if link is not None else 0
        if queued_len > BULK_LEN_MAX:
            # Renewals and results must not wait behind pieces of results that are only shown.
            items = [item for item in items if not is_bulk(item)]
        brief = queued_len > PROGRESS_LEN_MAX
        frames = self.talk.say(items, time.monotonic(), brief=brief)
        if link is not None and frames:
            self._acks.send(link, items, frames)

    def drain(self, reason: str) -> None:
        """Takes nothing new from now on; cannot be undone."""
        if not self.talk.draining:
            self.talk.draining = reason
            if self._link is not None:
                self._link.outbox.extend(self.talk.drains())

    async def finish(self, grace_s: float) -> None:
        """Drains, waits until all is settled or the grace is over, and says goodbye."""
        self.drain("stopping")
        deadline_s = time.monotonic() + grace_s
        while self.talk.leases and not self._stopped.is_set():
            self._settled.clear()
            try:
                # Not `wait_for`: on Python 3.11 it may keep a cancel to itself.
                async with asyncio.timeout(deadline_s - time.monotonic()):
                    await self._settled.wait()
            except TimeoutError:
                log.warning("stopped with %d tasks unfinished", len(self.talk.leases))
                break
        self._stopped.set()

    async def stop(self) -> None:
        """Makes `run` say goodbye and return, whatever is unfinished."""
        self._stopped.set()

    async def drop(self) -> None:
        """Ends the stream at once, without a word; `run` opens the next one."""
        if self._link is not None:
            await self._link.close()

    async def reintroduce(self, identities: Iterable[Identity]) -> None:
        """Says anew who agents of this session are, on a new stream; their leases stay."""
        for identity in identities:
            if identity.agent_id in self.talk.identities:
                self.talk.identities[identity.agent_id] = identity
        self._move_to = ""
        self._moving.set()

    async def run(self) -> None:
        """Holds the session until `finish`, or for ever.

        Raises:
            AgentSuperseded: newer instances have taken over all of its agents.
            InvalidArgument: the router refuses what the agents say of themselves.
            PermissionDenied: the caller may not be any of the agents.
        """
        ticker = asyncio.create_task(self._tick())
        supervisor = asyncio.create_task(self._supervise())
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            await first_of(supervisor, stopped)
            if supervisor.done():
                supervisor.result()
        finally:
            for task in (ticker, supervisor, stopped):
                task.cancel()
            await asyncio.wait((ticker, supervisor, stopped))
            await self._leave()
        if not self.talk.identities and self.talk.superseded is not None:
            raise self.talk.superseded

    async def _leave(self) -> None:
        self._stopped.set()
        link, self._link = self._link, None
        if link is not None:
            link.outbox.extend(self.talk.goodbyes())
            await link.close(GOODBYE_S_MAX)

    async def _supervise(self) -> None:
        lost_s = time.monotonic()
        while True:
            link = await self._connect(self._peer, lost_s)
            began_s = time.monotonic()
            while link.open:
                self.ready.set()
                moving = asyncio.create_task(self._moving.wait())
                try:
                    await first_of(link.ended, moving)
                finally:
                    moving.cancel()
                if link.open:
                    link = await self._move(link)
            lost_s = time.monotonic()
            self._losses.lasted(lost_s - began_s)
            # Moving may have failed often, since the router had no successor yet; now it may.
            self._backoff.reset()
            self._moving.clear()
            self._link = None
            reason = await self._ended(link)
            log.info("the stream to %s is lost: %s", self._peer.address, reason)
            # A router that goes is lost by all its agents at once; they must not return at once.
            await self._losses.wait(self._away_s)

    async def _move(self, old: Link) -> Link:
        """Opens the replacement of a stream whose router drains, then leaves the old one."""
        peer = self._peer._replace(address=self._move_to or self._peer.address)
        replacement = asyncio.create_task(self._connect(peer, time.monotonic()))
        try:
            await first_of(replacement, old.ended)
        except asyncio.CancelledError:
            replacement.cancel()
            raise
        if not replacement.done():
            # The old one ended first; whoever answers at the usual address is as good.
            replacement.cancel()
            await asyncio.wait((replacement,))
            return old
        self._moving.clear()
        await old.close()
        return replacement.result()

    async def _connect(self, peer: Peer, lost_s: float) -> Link:
        """Opens a stream; tries for ever, one router after the other."""
        addresses = peer.address.split(",")
        while True:
            peer = peer._replace(address=addresses[self._turn % len(addresses)])
            link = await self._try_connect(peer) if await self._is_there(peer) else None
            if link is not None:
                self._backoff.reset()
                self.connect_count += 1
                return link
            self._turn += 1
            results = list(self.talk.leases.results())
            if results and time.monotonic() - lost_s > FALLBACK_AFTER_S:
                for key in await report_unary(peer.address, self._metadata(), results):
                    self.talk.leases.forget(key)
                self._note_settled()
            await self._backoff.wait(self._away_s, NOBODY_S_MAX if self._nobody else math.inf)

    async def _is_there(self, peer: Peer) -> bool:
        """Asks in the cheap way where the last try found nobody."""
        # Each eighth try is whole: what stands between may let nothing but streams through.
        if not self._nobody or self._backoff.failures % 8 == 7 or await knock(peer.address):
            return True
        self._note_failed(peer, peer.unreachable())
        return False

    def _note_failed(self, peer: Peer, reason: PodiumError) -> None:
        # Once as loud as it takes to be seen by whoever forgot to start the suite.
        level = logging.INFO if self._backoff.failures else logging.WARNING
        log.log(level, "no session with %s yet, trying again: %s", peer.address, reason)

    async def _try_connect(self, peer: Peer) -> Link | None:
        fresh = self._own_connection or self._backoff.failures >= FRESH_CONNECTION_AFTER
        link = Link(peer, self._metadata(), self._receive, fresh=fresh)
        link.unready = set(self.talk.identities)
        link.outbox.extend(self.talk.hellos())
        link.ready_by_s = time.monotonic() + READY_S_MAX
        ready = asyncio.create_task(link.ready.wait())
        try:
            while not (ready.done() or link.ended.done()):
                left_s = link.ready_by_s - time.monotonic()
                if left_s <= 0:
                    break
                await first_of(ready, link.ended, timeout_s=left_s)
        except asyncio.CancelledError:
            await link.close()
            raise
        finally:
            ready.cancel()
        if link.ready.is_set() and link.open:
            return link
        self._note_failed(peer, await self._ended(link))
        return None

    async def _ended(self, link: Link) -> PodiumError:
        """Closes a stream that is over and returns why.

        Raises:
            InvalidArgument, PermissionDenied: trying again cannot help.
        """
        await link.close()
        if link.refused.keys() >= self.talk.identities.keys() and link.refused:
            raise next(iter(link.refused.values()))
        reason = link.ended.result()
        if isinstance(reason, InvalidArgument):
            raise reason
        full = isinstance(reason, ResourceExhausted)
        self._away_s = after(reason.retry_after_s or 0.0) if full else 0.0
        self._nobody = reason.reason == "UNREACHABLE"
        return reason

    def _receive(self, link: Link, frames: Frames) -> None:
        received = self.talk.receive(frames, time.monotonic())
        if received.tuned:
            self._tuned.set()
        if not link.ready.is_set():
            self._answered(link, received)
        if not self.talk.identities:
            self._stopped.set()
        if received.replies:
            link.outbox.extend(received.replies)
        if received.move_to is not None:
            self._move_to = received.move_to
            self._moving.set()
        if received.closed:
            self._closed(link, received)
        if received.work and link.ready.is_set():
            self._deliver(received.work)
        elif received.work:
            self._early += received.work
        if self.talk.draining:
            self._note_settled()

    def _answered(self, link: Link, received: Received) -> None:
        """Notes answers to Hello. With the last of them frames go out on this stream."""
        link.accepted = link.accepted or bool(received.welcomed)
        link.unready.difference_update(received.welcomed)
        for agent_id, error in received.refused:
            if agent_id in link.unready:
                # The others need not wait for it; alone, it has to say so.
                link.unready.discard(agent_id)
                link.refused[agent_id] = self.talk.shut_out(agent_id, error)
        if not received.turned_away:
            # Nor for one that was sent away for a while: it says Hello again on this stream.
            link.unready.difference_update(received.closed)
        if link.unready:
            return
        if not link.accepted:
            if not (received.closed or link.returning):
                link.end()
            return
        link.limit_frames(self.talk.frame_bytes_max)
        link.ready.set()
        self._link = link
        early, self._early = self._early, []
        if early:
            self._deliver(early)

    def _closed(self, link: Link, received: Received) -> None:
        """Finds another router when this one lets nobody in any more, or comes back to it."""
        if not received.turned_away:
            self._come_back(link, received)
        elif not link.ready.is_set():
            link.end()
        elif not self._moving.is_set():
            # Its other agents stay until a replacement is there.
            self._turn += 1
            self._move_to = ""
            self._moving.set()

    def _come_back(self, link: Link, received: Received) -> None:
        """Lets agents whose sessions were closed say Hello again, each after a wait of its own."""
        now_s = time.monotonic()
        for agent_id in received.closed:
            if agent_id in link.returning:
                continue
            link.returning.add(agent_id)
            if asked_s := received.away_s.get(agent_id, 0.0):
                wait_s = after(asked_s)
            else:
                backoff, closed_s = self._waits.get(agent_id, (Backoff(), now_s))
                if now_s - closed_s > CALM_S:
                    backoff.reset()
                self._waits[agent_id] = (backoff, now_s)
                wait_s = backoff.next_s()
            link.ready_by_s = max(link.ready_by_s, now_s + wait_s + READY_S_MAX)
            later = asyncio.get_running_loop().call_later
            later(wait_s, self._say_hello, link, agent_id)

    def _say_hello(self, link: Link, agent_id: str) -> None:
        link.returning.discard(agent_id)
        if link.open and agent_id in self.talk.closed:
            link.outbox.extend([self.talk.hello(agent_id)])

    def _note_settled(self) -> None:
        if not self.talk.leases:
            self._settled.set()

    async def _tick(self) -> None:
        while True:
            period_s = min(self.talk.heartbeat_s, self.talk.renew_s) / 4
            # Ready and Tune may shorten what is being waited for.
            self._tuned.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(period_s):
                    await self._tuned.wait()
                continue
            if self._link is not None:
                self._link.outbox.extend(self.talk.due(time.monotonic(), period_s))
                if self.talk.unanswered(time.monotonic()):
                    self._link.end()


async def first_of(*futures: asyncio.Future[Any], timeout_s: float | None = None) -> None:
    """Waits until one of them is done, or so long."""
    await asyncio.wait(futures, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
