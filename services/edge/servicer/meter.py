"""Bytes of a message that never becomes whole: fragments without end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from services.edge.core.pulse import Pulse
from services.edge.servicer.handshake import frame_bytes_max

wire_bytes_max = 2 * frame_bytes_max
"""What one message may take on the wire, the heads of its fragments included."""


class Meter:
    """Stands before the parser of a WebSocket and notes and counts what it is fed.

    The parser limits the size of a message and not the number of its fragments, of which empty
    ones add nothing to its size and cost time for ever.
    """

    def __init__(
        self, parser: Any, bytes_max: int, pulse: Pulse, exceeded: Callable[[], None]
    ) -> None:
        self._parser = parser
        self._bytes_max = bytes_max
        self._pulse = pulse
        self._exceeded = exceeded
        self._bytes = 0

    def reset(self) -> None:
        """Begin anew: a message was whole."""
        self._bytes = 0

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Pass on what the peer sent."""
        self._pulse.heard = True
        self._bytes += len(data)
        if self._bytes > self._bytes_max:
            self._exceeded()
            return True, b""
        fed: tuple[bool, bytes] = self._parser.feed_data(data)
        return fed

    def feed_eof(self) -> None:
        """Pass on that the peer has ended."""
        self._parser.feed_eof()


def metered(
    request: web.Request, bytes_max: int, pulse: Pulse, exceeded: Callable[[], None]
) -> Meter:
    """Put a meter before the parser of an upgraded connection."""
    protocol: Any = request.protocol
    # The library has no seam here; that it works is tested.
    meter = protocol._payload_parser = Meter(protocol._payload_parser, bytes_max, pulse, exceeded)
    return meter
