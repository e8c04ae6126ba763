"""The bridge: every connection, every request, every watch."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Sequence
from typing import NamedTuple

from aiohttp import WSMessage, WSMsgType, hdrs, web

from podium.v1.bridge_pb2 import BridgeRequest, BridgeResponse, Notice, Pong
from services.edge.core.callers import Callers
from services.edge.core.conduct import Conduct, lot_of
from services.edge.core.connections import Connections
from services.edge.core.origins import Origins
from services.edge.core.pulse import Pulse
from services.edge.core.speakers import Speakers
from services.edge.ports import Codec, Door, Peers, Sessions
from services.edge.servicer.agents import Agents
from services.edge.servicer.handshake import Visitor, answer_close, check, unopened
from services.edge.servicer.merging import Update
from services.edge.servicer.meter import metered
from services.edge.servicer.refusal import refusal
from services.edge.servicer.requests import Requests, check_ref, ref_len_max
from services.edge.servicer.wire import (
    POLICY_VIOLATION,
    SERVICE_RESTART,
    TOKEN_EXPIRED,
    TRY_AGAIN_LATER,
    UNSUPPORTED_DATA,
    Wire,
)
from services.kernel.clock import Clock
from services.kernel.errors import PodiumError, Unauthenticated
from services.kernel.limits import TokenBucket

log = logging.getLogger("podium.edge.bridge")

drain_s = 5.0
_PONG = Update(BridgeResponse(pong=Pong()))


class Limits(NamedTuple):
    """What one bridge allows."""

    connections_max: int
    agents_max: int
    messages_per_s: int
    write_deadline_s: float
    ping_s: float
    connections_per_caller_max: int = 1_000


class Counts:
    """What has happened, for the metrics."""

    def __init__(self) -> None:
        self.frames_in = 0
        self.frames_out = 0
        """Of connections that are gone."""
        self.opened = 0
        self.evicted = 0
        self.slow_consumers = 0
        self.refused = 0


class Bridge:
    """Serves WebSockets."""

    def __init__(
        self,
        codecs: Sequence[Codec],
        peers: Peers,
        lanes: Sequence[Sessions],
        origins: Origins,
        door: Door,
        clock: Clock,
        limits: Limits,
        version: str,
    ) -> None:
        self.counts = Counts()
        self._codecs = {codec.subprotocol: codec for codec in codecs}
        self._origins = origins
        self._door = door
        self._clock = clock
        self._limits = limits
        self._version = version
        self._numbers = itertools.count(1)
        self._connections: Connections[Wire] = Connections(limits.connections_max)
        # Evicted ones too, until they are gone: somebody has to see that they go.
        self._open: set[Wire] = set()
        self._callers = Callers(limits.connections_per_caller_max)
        self._speakers = Speakers(limits.agents_max)
        self._draining = False
        self._door_version = door.version()
        self._left = asyncio.Event()
        self._requests = Requests(peers, clock, self._connections.touch)
        self.agents = Agents(lanes, self._speakers, self._tell, self._strike)

    @property
    def connection_count(self) -> int:
        """Connections that are open."""
        return len(self._connections)

    @property
    def frames_out(self) -> int:
        """Messages that were written, ever."""
        return self.counts.frames_out + sum(wire.written_count for wire in self._open)

    @property
    def agent_count(self) -> int:
        """Agents with a session through this bridge."""
        return len(self._speakers)

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        """Serve one connection from its handshake to its end."""
        if self._draining:
            raise web.HTTPServiceUnavailable(
                text="This bridge is draining: connect again.", headers={hdrs.RETRY_AFTER: "1"}
            )
        visitor = check(request, self._origins, self._door, tuple(self._codecs))
        caller = visitor.caller
        if self._callers.full(caller):
            raise web.HTTPTooManyRequests(
                text="You have too many connections open: close one.",
                headers={hdrs.RETRY_AFTER: "5"},
            )
        self._callers.enter(caller)
        try:
            return await self._hold(request, visitor)
        finally:
            self._callers.leave(caller)

    async def _hold(self, request: web.Request, visitor: Visitor) -> web.WebSocketResponse:
        socket = unopened(visitor.subprotocol)
        await socket.prepare(request)
        wire = self._admit(socket, request.transport, visitor)
        metered(request, wire.pulse, wire.close)
        writer = asyncio.create_task(wire.run())
        try:
            await self._read(wire)
        finally:
            self._leave(wire)
            counted = wire.written_count
            for task in (*wire.watches.values(), *wire.asked):
                task.cancel()
            if wire.closing and not wire.aborted:
                await writer
            writer.cancel()
            await asyncio.gather(writer, *wire.asked, return_exceptions=True)
            self.counts.frames_out += wire.written_count - counted
        return socket

    def sweep(self) -> None:
        """Cut connections whose peer does not read or live, close those whose token is over."""
        now_s = self._clock.now().mono_s
        version = self._door.version()
        if version != self._door_version:
            self._door_version = version
            self._ask_again()
        for wire in tuple(self._open):
            if wire.aborted:
                continue
            if wire.stalled(now_s, self._limits.write_deadline_s):
                # A close could not reach it either.
                self._cut(wire)
            elif wire.expired():
                wire.close(TOKEN_EXPIRED, "the token has expired")
            else:
                self._feel(wire, now_s)

    def _ask_again(self) -> None:
        """Close the connections of those who would not be let in any more."""
        for wire in tuple(self._open):
            try:
                self._door.identify(wire.visitor.token)
            except Unauthenticated:
                wire.close(TOKEN_EXPIRED, "the token is not good any more")

    def _feel(self, wire: Wire, now_s: float) -> None:
        """Ask a quiet peer for a sign of life, and cut one that gave none."""
        verdict = wire.pulse.look(now_s)
        if verdict == "ask":
            wire.ask_for_life()
        elif verdict == "dead":
            log.info("a connection is dead and is cut off", extra={"connection": wire.number})
            wire.abort()

    async def keep_watching(self, *, overview: bool) -> None:
        """Hold the watches that many share; they end with it.

        Args:
            overview: whether to sample what waits and runs also while nobody looks, so that who
                comes sees the past. Where tokens are checked there is none to ask with until then.
        """
        request = BridgeRequest()
        request.watch_overview.SetInParent()
        await self._requests.feeds.keep([("watch_overview", request)] if overview else [])

    async def drain(self) -> None:
        """Tell every connection to go elsewhere and close it."""
        self._draining = True
        notice = Notice(kind="DRAINING", message="This bridge stops: connect again.")
        for wire in tuple(self._open):
            wire.offer(BridgeResponse(notice=notice))
            wire.close(SERVICE_RESTART, "draining; retry-after=1")
        try:
            async with asyncio.timeout(drain_s):
                while self._open:
                    self._left.clear()
                    await self._left.wait()
        except TimeoutError:
            for wire in tuple(self._open):
                wire.abort()

    def _admit(
        self, socket: web.WebSocketResponse, transport: asyncio.Transport | None, visitor: Visitor
    ) -> Wire:
        rate = self._limits.messages_per_s
        wire = Wire(
            next(self._numbers),
            socket,
            transport,
            self._codecs[visitor.subprotocol],
            Conduct(TokenBucket(rate, 4 * rate), lot_of(4 * rate)),
            Pulse(self._limits.ping_s, self._limits.ping_s / 2),
            self._clock,
            visitor,
        )
        self._open.add(wire)
        self.counts.opened += 1
        evicted = self._connections.admit(wire.number, wire)
        if evicted is not None:
            self.counts.evicted += 1
            evicted.close(TRY_AGAIN_LATER, "evicted, idle the longest; retry-after=5")
        self._greet(wire)
        return wire

    def _greet(self, wire: Wire) -> None:
        welcome = Notice(kind="WELCOME", message="Podium's bridge", version=self._version)
        wire.offer(BridgeResponse(notice=welcome))

    def _leave(self, wire: Wire) -> None:
        self._open.discard(wire)
        self.counts.frames_out += wire.written_count
        self._connections.remove(wire.number)
        self.agents.gone(wire.number)
        self._left.set()

    async def _read(self, wire: Wire) -> None:
        text, binary = WSMsgType.TEXT, WSMsgType.BINARY
        while not wire.aborted:
            message = await wire.socket.receive()
            if message.type is text or message.type is binary:
                self.counts.frames_in += 1
                if wire.closing or not (wire.conduct.granted() or self._in_time(wire)):
                    continue
                self._connections.touch(wire.number)
                await self._take(wire, message)
            elif message.type in (WSMsgType.PING, WSMsgType.PONG):
                await self._heed(wire, message)
            else:
                if message.type is WSMsgType.CLOSE:
                    await answer_close(wire.socket, message.data)
                return

    async def _heed(self, wire: Wire, message: WSMessage) -> None:
        """Answer a ping. A pong answers ours, and many are a flood as good as any."""
        if wire.closing or not (wire.conduct.granted() or self._in_time(wire)):
            return
        if message.type is WSMsgType.PING:
            await wire.pong(message.data)

    def _in_time(self, wire: Wire) -> bool:
        """Tell whether a message that was not granted before may be; else close."""
        if not wire.conduct.too_fast(self._clock.now().mono_s):
            return True
        self.counts.refused += 1
        wire.close(POLICY_VIOLATION, "too many messages")
        return False

    async def _take(self, wire: Wire, message: WSMessage) -> None:
        """Serve one message; what is wrong with it is answered, and the connection lives."""
        if message.type is not wire.kind:
            kind = "binary" if wire.codec.binary else "text"
            wire.close(UNSUPPORTED_DATA, f"{wire.codec.subprotocol} is {kind}")
            return
        ref = arm = ""
        try:
            request = wire.codec.decode(message.data)
            ref, arm = request.ref, request.WhichOneof("request") or ""
            if arm == "ping" and 0 < len(ref) <= ref_len_max:
                await wire.answer_alike(ref, _PONG)
            else:
                await self._serve(wire, ref, arm, request)
        except PodiumError as error:
            self.counts.refused += 1
            answer_to = ref if len(ref) <= ref_len_max else ""
            await wire.answer(refusal(answer_to or error.metadata.get("ref", ""), error))
            if error.code in ("INVALID_ARGUMENT", "FAILED_PRECONDITION"):
                self._strike(wire.number)

    async def _serve(self, wire: Wire, ref: str, arm: str, request: BridgeRequest) -> None:
        if arm == "agent":
            principal = wire.visitor.identity.principal
            self.agents.speak(wire.number, principal, request.agent.frames)
            return
        check_ref(ref, arm)
        await self._requests.serve(wire, ref, arm, request)

    def _tell(self, connection: int, response: BridgeResponse) -> None:
        """Give frames to an agent's connection; one that cannot take them is lost to the agent."""
        wire = self._connections.get(connection)
        if wire is None or wire.aborted:
            return
        self._connections.touch(connection)
        if not wire.offer(response):
            self._cut(wire)

    def _strike(self, connection: int) -> None:
        wire = self._connections.get(connection)
        if wire is not None and wire.conduct.strike(self._clock.now().mono_s):
            wire.close(POLICY_VIOLATION, "too many messages that make no sense")

    def _cut(self, wire: Wire) -> None:
        self.counts.slow_consumers += 1
        log.warning("a connection does not read and is cut off", extra={"connection": wire.number})
        wire.abort()


__all__ = ["Bridge", "Limits"]
