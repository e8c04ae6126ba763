"""The streams to a Routing on which all agents of the bridge have their sessions there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import grpc.aio

from podium.v1 import routing_pb2_grpc
from podium.v1.routing_pb2 import OpenSessionRequest
from podium.v1.session_pb2 import AgentFrame, RouterFrame
from services.edge.core.speakers import Lane
from services.kernel.coalesce import Outbox, messages
from services.kernel.errors import ResourceExhausted, Unavailable
from services.kernel.writing import write

log = logging.getLogger("podium.edge.sessions")


class RoutingSessions:
    """`RoutingService.OpenSession`, shared."""

    def __init__(self, lane: Lane, channel: grpc.aio.Channel) -> None:
        self.lane = lane
        stub: Any = routing_pb2_grpc.RoutingServiceStub(channel)
        self._open = stub.OpenSession
        self._channel = channel
        self._outbox: Outbox[AgentFrame] | None = None
        self._wanted = asyncio.Event()
        self._rare = lane.number > 0

    @property
    def attached(self) -> bool:
        """Whether the stream is open."""
        return self._outbox is not None

    def send(self, frames: Sequence[AgentFrame]) -> None:
        """Send frames in order.

        Raises:
            Unavailable: ROUTING_UNREACHABLE, there is no stream or it does not move.
        """
        if self._outbox is None and self._rare:
            # Opened only when somebody comes beside an agent; until then its frames wait.
            self._outbox = Outbox()
            self._wanted.set()
        try:
            if self._outbox is not None:
                self._outbox.extend(frames)
                return
        except ResourceExhausted:
            log.warning("The stream to Routing does not move; frames of agents are refused.")
        raise Unavailable(
            "ROUTING_UNREACHABLE",
            "Routing cannot be reached; say Hello again in a moment.",
            retry_after_s=1.0,
        )

    async def attach(
        self,
        deliver: Callable[[Sequence[RouterFrame]], None],
        lost: Callable[[str], None],
    ) -> None:
        """Open the stream and return when it has ended.

        An OpenSession without a frame is legal and silent, so the channel, not the stream, tells
        that Routing is there.
        """
        if self._rare:
            await self._wanted.wait()
        await self._channel.channel_ready()
        call = self._open()
        outbox: Outbox[AgentFrame] = self._outbox or Outbox()
        writer = asyncio.create_task(_write(call, outbox))
        self._outbox = outbox
        log.info("attached to Routing", extra={"router": self.lane.router})
        reason = "Routing has closed the stream."
        try:
            async for response in call:
                deliver(response.frames)
        except grpc.aio.AioRpcError as error:
            reason = f"The stream to Routing is lost ({error.code().name})."
            log.warning("%s %s", reason, error.details())
        finally:
            self._outbox = None
            self._wanted.clear()
            outbox.close()
            writer.cancel()
            call.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            lost(reason)


async def _write(call: Any, outbox: Outbox[AgentFrame]) -> None:
    async for batch in outbox.batches():
        for request in messages(batch, lambda frames: OpenSessionRequest(frames=frames)):
            await write(call, request)
