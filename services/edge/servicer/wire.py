"""One WebSocket: what waits to be written, who writes it, and how it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, NamedTuple

from aiohttp import WSCloseCode, WSMsgType, web

from podium.v1.bridge_pb2 import BridgeResponse
from services.edge.core.conduct import Conduct
from services.edge.core.outbound import Outbound
from services.edge.core.pulse import Pulse
from services.edge.ports import Codec
from services.edge.servicer.handshake import Visitor
from services.edge.servicer.merging import Update
from services.kernel.clock import Clock

log = logging.getLogger("podium.edge.wire")


class _Addressed(NamedTuple):
    """An update for the watch `ref` of this connection."""

    ref: str
    update: Update


def _merge(waiting: BridgeResponse | _Addressed, newer: Any) -> BridgeResponse | _Addressed:
    assert isinstance(waiting, _Addressed)
    return _Addressed(waiting.ref, waiting.update.taking_in(newer.update))


class Wire:
    """The connection `number`: answers go in by `answer`, what a watch tells by `update`.

    What comes while nothing waits is written at once by who brings it; `run` writes the rest.
    """

    def __init__(
        self,
        number: int,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport | None,
        codec: Codec,
        conduct: Conduct,
        pulse: Pulse,
        clock: Clock,
        visitor: Visitor,
    ) -> None:
        self.number = number
        self.socket = socket
        self.codec = codec
        self.conduct = conduct
        self.pulse = pulse
        self.visitor = visitor
        self.watches: dict[str, asyncio.Task[None]] = {}
        self.asked: set[asyncio.Task[None]] = set()
        self.aborted = False
        self._transport = transport
        self.kind = WSMsgType.BINARY if codec.binary else WSMsgType.TEXT
        self._clock = clock
        self._outbound: Outbound[BridgeResponse | _Addressed] = Outbound()
        self._waiting = self._outbound.waiting
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._closing: tuple[int, str] | None = None
        self._writing = False
        self._asking = False
        self.written_count = 0
        """Messages that were written."""
        self._stuck: tuple[int, float] | None = None
        """The write that was under way when somebody last looked, and since when."""

    @property
    def closing(self) -> bool:
        """Whether nothing more is accepted from the peer."""
        return self._closing is not None or self.aborted

    def offer(self, response: BridgeResponse) -> bool:
        """Queue an answer; False when the reader is so slow that there is no place."""
        return self._put(response)

    def answer(self, response: BridgeResponse) -> Awaitable[None]:
        """Give an answer, waiting for a place: who asks and does not read gets no more answers."""
        return self._write(response) if self._idle() else self._queue(response)

    def answer_alike(self, ref: str, update: Update) -> Awaitable[None]:
        """Give an answer that is encoded already, but for its ref."""
        addressed = _Addressed(ref, update)
        return self._write(addressed) if self._idle() else self._queue(addressed)

    async def update(self, ref: str, update: Update) -> None:
        """Give an update of the watch `ref`, merged with one that waits."""
        addressed = _Addressed(ref, update)
        if self._idle():
            await self._write(addressed)
            return
        while not self._outbound.update(ref, addressed, _merge) and not self.aborted:
            await self._has_room()
        self._wake.set()

    def forget(self, ref: str) -> None:
        """Drop the update that waits for the watch `ref`."""
        self._outbound.forget(ref)

    def close(self, code: int, reason: str) -> None:
        """Close in order: what waits is written first."""
        if self._closing is None:
            self._closing = (code, reason)
            self._wake.set()

    def ask_for_life(self) -> None:
        """Let the peer be pinged; what waits goes first."""
        self._asking = True
        self._wake.set()

    def abort(self) -> None:
        """Cut the connection: its peer does not read, so it could not be told anyway."""
        self.aborted = True
        self._room.set()
        self._wake.set()
        if self._transport is not None:
            self._transport.abort()

    def expired(self) -> bool:
        """Tell whether the visitor's token is over."""
        return self._clock.now().wall_ms / 1_000 >= self.visitor.identity.expire_s

    def stalled(self, now_s: float, deadline_s: float) -> bool:
        """Tell whether the same write has been under way for `deadline_s`.

        Asked again and again; reading the clock at each write would cost more than the asking.
        """
        if not self._writing:
            self._stuck = None
        elif self._stuck is None or self._stuck[0] != self.written_count:
            self._stuck = (self.written_count, now_s)
        return self._stuck is not None and now_s - self._stuck[1] >= deadline_s

    async def run(self) -> None:
        """Write what is queued until the connection ends."""
        try:
            while not self.aborted:
                # While somebody who found the queue empty still writes, what waits is behind it.
                message = None if self._writing else self._outbound.take()
                if message is not None:
                    await self._write(message)
                elif self._closing is not None and not self._writing:
                    code, reason = self._closing
                    # The peer gets a moment to answer the close; what it does not read is cut off.
                    self._writing = True
                    await self.socket.close(code=code, message=reason.encode()[:120])
                    return
                elif self._asking and not self._writing:
                    self._asking = False
                    await self.socket.ping()
                else:
                    self._wake.clear()
                    await self._wake.wait()
        except (ConnectionError, RuntimeError):
            self._broken()

    def _put(self, message: BridgeResponse | _Addressed) -> bool:
        if not self._outbound.put(message):
            return False
        self._wake.set()
        return True

    async def _queue(self, message: BridgeResponse | _Addressed) -> None:
        while not self._put(message) and not self.aborted:
            await self._has_room()

    def _idle(self) -> bool:
        return not (self._writing or self._waiting or self._closing is not None or self.aborted)

    async def _write(self, message: BridgeResponse | _Addressed) -> None:
        if isinstance(message, _Addressed):
            frame = message.update.frame(message.ref, self.codec)
        else:
            frame = self.codec.encode(message)
        self._writing = True
        try:
            await self.socket.send_frame(frame, self.kind)
        except (ConnectionError, RuntimeError):
            self._broken()
        finally:
            # Whoever is stopped while the peer is slow has given the frame away whole.
            self._writing = False
            self.written_count += 1
            if self._waiting or self._asking or self._closing is not None:
                self._wake.set()
        if not self._room.is_set():
            self._room.set()

    async def _has_room(self) -> None:
        self._room.clear()
        await self._room.wait()

    def _broken(self) -> None:
        # The peer is gone; the reading side sees the end and cleans up.
        log.debug("a connection ended while it was written to")
        self.abort()

    async def pong(self, data: Any) -> None:
        """Answer a ping of the peer."""
        if not self.socket.closed:
            await self.socket.pong(data)


POLICY_VIOLATION = WSCloseCode.POLICY_VIOLATION
UNSUPPORTED_DATA = WSCloseCode.UNSUPPORTED_DATA
SERVICE_RESTART = WSCloseCode.SERVICE_RESTART
TRY_AGAIN_LATER = WSCloseCode.TRY_AGAIN_LATER
TOKEN_EXPIRED = 4401
