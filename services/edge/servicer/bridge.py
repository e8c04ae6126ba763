"""The bridge: every connection, every request, every watch."""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import NamedTuple

from aiohttp import WSMsgType, hdrs, web

from podium.v1.bridge_pb2 import BridgeRequest, BridgeResponse, Notice, Pong, Unwatched
from services.edge.core.conduct import Conduct
from services.edge.core.connections import Connections
from services.edge.core.origins import Origins
from services.edge.core.speakers import Speakers
from services.edge.ports import Codec, Door, Peers, Sessions
from services.edge.servicer.agents import Agents
from services.edge.servicer.handshake import Visitor, check
from services.edge.servicer.refusal import refusal
from services.edge.servicer.wire import (
    POLICY_VIOLATION,
    SERVICE_RESTART,
    TOKEN_EXPIRED,
    TRY_AGAIN_LATER,
    UNSUPPORTED_DATA,
    Wire,
)
from services.kernel.clock import Clock
from services.kernel.errors import (
    Internal,
    InvalidArgument,
    PodiumError,
    ResourceExhausted,
    Unavailable,
)
from services.kernel.limits import TokenBucket

log = logging.getLogger("podium.edge.bridge")

frame_bytes_max = 512 * 1024
"""One message either way from a browser: a payload of 256 KiB in base64 and what is around it."""
ref_len_max = 64
asked_len_max = 32
"""Requests of one connection under way at once; it is not read from beyond that."""
watches_len_max = 32
close_s = 2.0
drain_s = 5.0


class Limits(NamedTuple):
    """What one bridge allows."""

    connections_max: int
    agents_max: int
    messages_per_s: int
    write_deadline_s: float
    ping_s: float


class Counts:
    """What has happened, for the metrics."""

    def __init__(self) -> None:
        self.frames_in = 0
        self.frames_out = 0
        self.opened = 0
        self.evicted = 0
        self.slow_consumers = 0
        self.refused = 0


class Bridge:
    """Serves WebSockets."""

    def __init__(
        self,
        codec: Codec,
        peers: Peers,
        sessions: Sessions,
        origins: Origins,
        door: Door,
        clock: Clock,
        limits: Limits,
        version: str,
    ) -> None:
        self.counts = Counts()
        self._codec = codec
        self._peers = peers
        self._origins = origins
        self._door = door
        self._clock = clock
        self._limits = limits
        self._version = version
        self._numbers = itertools.count(1)
        self._connections: Connections[Wire] = Connections(limits.connections_max)
        # Evicted ones too, until they are gone: somebody has to see that they go.
        self._open: set[Wire] = set()
        self._speakers = Speakers(limits.agents_max)
        self._draining = False
        self._left = asyncio.Event()
        self.agents = Agents(sessions, self._speakers, self._tell, self._strike)

    @property
    def connection_count(self) -> int:
        """Connections that are open."""
        return len(self._connections)

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
        visitor = check(request, self._origins, self._door, self._codec.subprotocol)
        socket = web.WebSocketResponse(
            timeout=close_s,
            autoping=False,
            heartbeat=self._limits.ping_s,
            protocols=(self._codec.subprotocol,),
            compress=False,
            max_msg_size=frame_bytes_max,
            writer_limit=64 * 1024,
        )
        await socket.prepare(request)
        wire = self._admit(socket, request.transport, visitor)
        writer = asyncio.create_task(wire.run())
        try:
            await self._read(wire)
        finally:
            self._leave(wire)
            for task in (*wire.watches.values(), *wire.asked):
                task.cancel()
            if wire.closing and not wire.aborted:
                await writer
            writer.cancel()
            await asyncio.gather(writer, *wire.asked, return_exceptions=True)
        return socket

    def sweep(self) -> None:
        """Cut connections whose peer does not read, and close those whose token is over."""
        for wire in tuple(self._open):
            if wire.aborted:
                continue
            if wire.stalled(self._limits.write_deadline_s):
                # A close could not reach it either.
                self._cut(wire)
            elif wire.expired():
                wire.close(TOKEN_EXPIRED, "the token has expired")

    async def drain(self) -> None:
        """Tell every connection to go elsewhere and close it."""
        self._draining = True
        notice = Notice(kind="DRAINING", message="This bridge stops: connect again.")
        for wire in tuple(self._open):
            wire.offer(BridgeResponse(notice=notice))
            wire.close(SERVICE_RESTART, "draining")
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
            self._codec,
            Conduct(TokenBucket(rate, 4 * rate)),
            self._clock,
            visitor,
            self._written,
        )
        self._open.add(wire)
        self.counts.opened += 1
        evicted = self._connections.admit(wire.number, wire)
        if evicted is not None:
            self.counts.evicted += 1
            evicted.close(TRY_AGAIN_LATER, "evicted: this connection was idle the longest")
        welcome = Notice(kind="WELCOME", message="Podium's bridge", version=self._version)
        wire.offer(BridgeResponse(notice=welcome))
        return wire

    def _leave(self, wire: Wire) -> None:
        self._open.discard(wire)
        self._connections.remove(wire.number)
        self.agents.gone(wire.number)
        self._left.set()

    async def _read(self, wire: Wire) -> None:
        while not wire.aborted:
            message = await wire.socket.receive()
            if message.type is WSMsgType.TEXT:
                self.counts.frames_in += 1
                if wire.closing:
                    continue
                if self._too_fast(wire):
                    continue
                self._connections.touch(wire.number)
                await self._take(wire, message.data)
            elif message.type is WSMsgType.PING:
                if not wire.closing and not self._too_fast(wire):
                    await wire.pong(message.data)
            elif message.type is WSMsgType.BINARY:
                wire.close(UNSUPPORTED_DATA, f"{self._codec.subprotocol} is text")
            elif message.type is not WSMsgType.PONG:
                return

    def _too_fast(self, wire: Wire) -> bool:
        if not wire.conduct.too_fast(self._clock.now().mono_s):
            return False
        self.counts.refused += 1
        wire.close(POLICY_VIOLATION, "too many messages")
        return True

    async def _take(self, wire: Wire, text: str) -> None:
        """Serve one message; what is wrong with it is answered, and the connection lives."""
        ref = arm = ""
        try:
            request = self._codec.decode(text)
            ref, arm = request.ref, request.WhichOneof("request") or ""
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
        _check_ref(ref, arm)
        if arm == "ping":
            await wire.answer(BridgeResponse(ref=ref, pong=Pong()))
        elif arm == "unwatch":
            await self._unwatch(wire, ref, request.unwatch.watch_ref)
        elif self._peers.watches(arm):
            self._watch(wire, ref, arm, request)
        else:
            while len(wire.asked) >= asked_len_max:
                await asyncio.wait(wire.asked, return_when=asyncio.FIRST_COMPLETED)
            task = asyncio.create_task(self._ask(wire, ref, arm, request))
            wire.asked.add(task)
            task.add_done_callback(wire.asked.discard)

    async def _ask(self, wire: Wire, ref: str, arm: str, request: BridgeRequest) -> None:
        try:
            response = await self._peers.ask(arm, request, wire.visitor.token)
            response.ref = ref
        except PodiumError as error:
            response = refusal(ref, error, arm)
        except Exception:
            log.exception("a request failed unexpectedly", extra={"arm": arm})
            response = refusal(ref, _internal())
        await wire.answer(response)

    def _watch(self, wire: Wire, ref: str, arm: str, request: BridgeRequest) -> None:
        if ref in wire.watches:
            raise InvalidArgument("WATCH_REPEATED", f"A watch with the ref {ref!r} is open.")
        if len(wire.watches) >= watches_len_max:
            raise ResourceExhausted(
                "TOO_MANY_WATCHES", f"A connection has at most {watches_len_max} watches."
            )
        task = asyncio.create_task(self._follow(wire, ref, arm, request))
        wire.watches[ref] = task

    async def _follow(self, wire: Wire, ref: str, arm: str, request: BridgeRequest) -> None:
        """Pass on what a watch brings; it ends with an error, since it has no end of its own."""
        error: PodiumError = Unavailable(
            "WATCH_ENDED", "The watch has ended; watch again.", retry_after_s=1.0
        )
        try:
            async for response in self._peers.watch(arm, request, wire.visitor.token):
                response.ref = ref
                await wire.update(ref, response)
                self._connections.touch(wire.number)
        except PodiumError as raised:
            error = raised
        except Exception:
            log.exception("a watch failed unexpectedly", extra={"arm": arm})
            error = _internal()
        wire.watches.pop(ref, None)
        await wire.answer(refusal(ref, error, arm))

    async def _unwatch(self, wire: Wire, ref: str, watch_ref: str) -> None:
        task = wire.watches.pop(watch_ref, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            wire.forget(watch_ref)
        unwatched = Unwatched(watch_ref=watch_ref)
        await wire.answer(BridgeResponse(ref=ref, unwatched=unwatched))

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

    def _written(self) -> None:
        self.counts.frames_out += 1


def _check_ref(ref: str, arm: str) -> None:
    if not arm:
        raise InvalidArgument("REQUEST_MISSING", "The message asks for nothing: set one request.")
    if not 0 < len(ref) <= ref_len_max:
        raise InvalidArgument("INVALID_FIELD", f"ref must be 1 to {ref_len_max} characters.")


def _internal() -> Internal:
    return Internal("INTERNAL", "internal error")


__all__ = ["Bridge", "Limits"]
