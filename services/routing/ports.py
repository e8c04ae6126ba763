"""What the rooms of Routing need of each other and of the peers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from podium.v1 import routing_pb2
from services.kernel.errors import PodiumError
from services.kernel.instant import Instant
from services.routing.core.effects import LeaseKey
from services.routing.core.router import Router


class Line(Protocol):
    """A stream of agents, seen from this side."""

    number: int

    async def send(
        self, write: Callable[[routing_pb2.OpenSessionResponse], Awaitable[None]]
    ) -> None:
        """Write what is to be sent, until the line is closed.

        Raises:
            PodiumError: the core has closed the line, and why.
        """
        ...

    def close(self) -> None:
        """Send what is queued and end."""
        ...

    def fail(self, error: PodiumError) -> None:
        """Send what is queued and end with an error."""
        ...


class Desk(Protocol):
    """Where inputs meet the core and its effects are performed."""

    router: Router

    def now(self) -> Instant:
        """Return the time that inputs are stamped with."""
        ...

    def open_line(self) -> Line:
        """Take a new stream in."""
        ...

    def drop_line(self, number: int) -> None:
        """Let a stream go that has ended."""
        ...

    def close_lines(self) -> None:
        """End all streams."""
        ...

    def touch(self) -> None:
        """Let the core decide soon: once for everything that comes in the same turn."""
        ...

    async def settlement(self, key: LeaseKey) -> int:
        """Return the scheduler's verdict on an outcome that was reported."""
        ...

    def tick(self) -> None:
        """Do what is due."""
        ...


class Link(Protocol):
    """A stream to a peer that is opened again whenever it ends."""

    peer: str

    async def serve(self) -> None:
        """Hold the stream; return or raise when it has ended."""
        ...
