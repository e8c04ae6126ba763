"""What the bridge needs of the world."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple, Protocol

from podium.v1.bridge_pb2 import BridgeRequest, BridgeResponse
from podium.v1.session_pb2 import AgentFrame, RouterFrame
from services.edge.core.speakers import Lane
from services.kernel.auth import Principal


class Identity(NamedTuple):
    """Who a visitor is."""

    principal: Principal
    expire_s: float
    """When that ends to be so, in seconds since the epoch."""


class Door(Protocol):
    """Tells visitors apart."""

    def identify(self, token: str) -> Identity:
        """Return who shows this token, empty for none; raise Unauthenticated."""
        ...

    def version(self) -> int:
        """Return a number that changes when a token that was good may be no more."""
        ...


class Codec(Protocol):
    """One spelling of the bridge's messages."""

    subprotocol: str
    """Its name in the WebSocket handshake."""
    binary: bool
    """Whether its messages are binary frames instead of text."""

    def decode(self, message: Any) -> BridgeRequest:
        """Return the request; raise InvalidArgument, with `ref` in the metadata if it has one."""
        ...

    def encode(self, response: BridgeResponse) -> bytes:
        """Return the bytes of a frame."""
        ...

    def address(self, ref: str, body: bytes) -> bytes:
        """Return the frame that a response without a ref, already encoded, is under this ref.

        What goes to many readers is encoded once and addressed to each.
        """
        ...


class Peers(Protocol):
    """The services behind the bridge, as they answer clients."""

    def watches(self, arm: str) -> bool:
        """Tell whether requests of this kind are answered again and again."""
        ...

    async def ask(self, arm: str, request: BridgeRequest, token: str) -> BridgeResponse:
        """Return the answer, without its ref; raise a PodiumError when there is none.

        Args:
            arm: The field of the request that is set.
            request: The request.
            token: What the caller shows to prove who it is; empty for nothing.
        """
        ...

    def watch(self, arm: str, request: BridgeRequest, token: str) -> AsyncIterator[BridgeResponse]:
        """Yield the answers, without their ref, until the peer ends; raise a PodiumError."""
        ...


class Sessions(Protocol):
    """A stream to one Routing that agents placed there share."""

    lane: Lane
    """Which one. Only those with the number 0 are open at all times, others when they are used."""

    @property
    def attached(self) -> bool:
        """Whether the stream is open."""
        ...

    def send(self, frames: Sequence[AgentFrame]) -> None:
        """Send frames in order; raise Unavailable when there is no stream, or it is stuck."""
        ...

    async def attach(
        self, deliver: Callable[[Sequence[RouterFrame]], None], lost: Callable[[str], None]
    ) -> None:
        """Open the stream and return when it has ended; `lost` is told why, once.

        Args:
            deliver: Takes the frames to agents, in order.
            lost: Told when a stream that was open has ended.
        """
        ...
