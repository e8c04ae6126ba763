"""One stream between this process and a router: opened, read, written, ended. Knows no policy."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Sequence

import grpc
import grpc.aio

from podium.sdk.errors import Peer, PodiumError, Unavailable, from_rpc_error
from podium.sdk.outbox import Outbox
from podium.sdk.wire import dial, message_bytes_max
from podium.sdk.writing import write
from podium.v1 import routing_pb2, routing_pb2_grpc, session_pb2

log = logging.getLogger("podium.sdk.link")

Frames = Sequence[session_pb2.RouterFrame]

KNOCK_S_MAX = 1.0
# A message has room for its own framing.
_BATCH_BYTES_MAX = message_bytes_max * 3 // 4


class Link:
    """A session stream. `ended` is done when it is over, with the reason."""

    def __init__(
        self,
        peer: Peer,
        metadata: tuple[tuple[str, str], ...],
        receive: Callable[[Link, Frames], None],
        *,
        fresh: bool,
    ) -> None:
        self._peer = peer
        self._receive = receive
        self._channel = dial(peer.address, fresh=fresh)
        stub = routing_pb2_grpc.RoutingServiceStub(self._channel)
        self._call = stub.OpenSession(metadata=metadata)
        self.outbox: Outbox[session_pb2.AgentFrame] = Outbox()
        self._batch_bytes_max = _BATCH_BYTES_MAX
        # Agents that Ready has not come for yet.
        self.unready: set[str] = set()
        # Agents that say Hello on it again in a moment.
        self.returning: set[str] = set()
        # Until when Ready may take, on the monotonic clock.
        self.ready_by_s = 0.0
        # Whether Ready has come for one of them, and why others were refused.
        self.accepted = False
        self.refused: dict[str, PodiumError] = {}
        self.ready = asyncio.Event()
        self.ended: asyncio.Future[PodiumError] = asyncio.get_running_loop().create_future()
        self._writer = asyncio.create_task(self._write())
        self._reader = asyncio.create_task(self._read())

    @property
    def open(self) -> bool:
        """Whether frames still go out."""
        return not self.ended.done()

    def limit_frames(self, frame_bytes_max: int) -> None:
        """Sends no larger messages than the router takes; 0 = as gRPC takes."""
        if frame_bytes_max:
            self._batch_bytes_max = min(_BATCH_BYTES_MAX, frame_bytes_max * 3 // 4)

    def end(self) -> None:
        """Ends the stream at once; `close` cleans up."""
        self._call.cancel()

    async def close(self, within_s: float = 0.0) -> None:
        """Sends what is queued, ends the stream and waits so long for the router's end."""
        self.outbox.close()
        if within_s:
            await asyncio.wait([self._reader], timeout=within_s)
        self._call.cancel()
        self._writer.cancel()
        await asyncio.wait([self._reader, self._writer])
        await self._channel.close()

    async def _write(self) -> None:
        try:
            while batch := await self.outbox.take():
                for message in _messages(batch, self._batch_bytes_max):
                    await write(self._call, message)
            await self._call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the reader learns why

    async def _read(self) -> None:
        reason: PodiumError = Unavailable("STREAM_ENDED", "the router ended the stream")
        try:
            while True:
                response = await self._call.read()
                if not isinstance(response, routing_pb2.OpenSessionResponse):
                    break  # the end
                self._receive(self, response.frames)
        except grpc.aio.AioRpcError as error:
            reason = from_rpc_error(error, self._peer)
        except asyncio.CancelledError:
            reason = Unavailable("STREAM_CLOSED", "the stream was closed here")
        except Exception as error:
            # A fault of this program, not of the router: the next stream may come without it.
            log.exception("what the router sent cannot be followed: the stream is given up")
            reason = Unavailable("STREAM_FAILED", f"what came by it cannot be followed: {error!r}")
        finally:
            self.outbox.close()
            if not self.ended.done():
                self.ended.set_result(reason)


def _messages(
    batch: list[session_pb2.AgentFrame], bytes_max: int
) -> list[routing_pb2.OpenSessionRequest]:
    """Returns the message with a batch, or several where payloads make it too large."""
    message = routing_pb2.OpenSessionRequest(frames=batch)
    if len(batch) == 1 or message.ByteSize() <= bytes_max:
        return [message]
    middle = len(batch) // 2
    return _messages(batch[:middle], bytes_max) + _messages(batch[middle:], bytes_max)


async def knock(address: str) -> bool:
    """Tells whether somebody listens at an address; yes where that cannot be asked so.

    A stream that finds nobody costs ten times as much, and a fleet whose router is away opens many.
    """
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or "/" in host:
        return True  # an address that gRPC alone understands
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(KNOCK_S_MAX):
            infos = await loop.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
            for family, kind, _, _, where in infos:
                with socket.socket(family, kind) as door, contextlib.suppress(ConnectionError):
                    door.setblocking(False)
                    await loop.sock_connect(door, where)
                    return True
    except (OSError, TimeoutError):
        pass
    return False
