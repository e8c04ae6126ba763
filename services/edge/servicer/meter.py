"""What the parser of a WebSocket lets pass: frames without a mask, and fragments without end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import WSCloseCode, web

from services.edge.core.pulse import Pulse

fragments_len_max = 16_384
"""Of one message: of the largest message, 32 bytes each."""

_MASKED, _FINAL, _CONTROL, _LENGTH = 0x80, 0x80, 0x08, 0x7F
_FINAL_OR_CONTROL = _FINAL | _CONTROL
_SHORT = 6 + 126
"""Bytes of a frame whose head has its length in seven bits: less than this."""
_MASKED_LESS_HEAD = _MASKED - 6

Broken = Callable[[WSCloseCode, str], None]
"""Closes a connection whose frames are not to be parsed any further."""


class Meter:
    """Stands before the parser of a WebSocket and reads the heads of the frames it is fed.

    The parser serves clients too, so it takes frames without a mask (RFC 6455, 5.1, has a server
    close on them); and it limits the size of a message and not the number of its fragments, of
    which empty ones add nothing to its size and cost time for ever.
    """

    def __init__(self, parser: Any, pulse: Pulse, broken: Broken) -> None:
        self._parser = parser
        self._pulse = pulse
        self._broken = broken
        self._head = b""
        """The beginning of a head whose end has not come."""
        self._skip = 0
        """Bytes of the frame in hand that have not come."""
        self._between = True
        """Whether what comes next is the head of a frame."""
        self._fragments = 0

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Pass on what the peer sent."""
        self._pulse.heard = True
        size = len(data)
        # Nearly always it is one short message in one frame; reading that is worth being quick.
        if (
            5 < size < _SHORT
            and data[1] == size + _MASKED_LESS_HEAD
            and data[0] & _FINAL_OR_CONTROL == _FINAL
            and self._between
        ):
            self._fragments = 0
        elif self._skip >= size:
            self._skip -= size
            self._between = not self._skip
        elif not self._good(data):
            return True, b""
        fed: tuple[bool, bytes] = self._parser.feed_data(data)
        return fed

    def feed_eof(self) -> None:
        """Pass on that the peer has ended."""
        self._parser.feed_eof()

    def _good(self, data: bytes) -> bool:
        """Read the heads in `data`; False, and closed, when a frame must not be parsed."""
        at = self._skip
        if self._head:
            data, self._head = self._head + data, b""
        end = len(data)
        while at < end:
            size = _size(data, at)
            if size is None:
                self._head, at = data[at:], end
                break
            first, second = data[at], data[at + 1]
            if not second & _MASKED:
                self._broken(WSCloseCode.PROTOCOL_ERROR, "a frame of a client has a mask")
                return False
            if not first & _CONTROL:
                self._fragments = 0 if first & _FINAL else self._fragments + 1
                if self._fragments > fragments_len_max:
                    self._broken(WSCloseCode.MESSAGE_TOO_BIG, "a message of too many fragments")
                    return False
            at += size
        self._skip = at - end
        self._between = not (self._skip or self._head)
        return True


def _size(data: bytes, at: int) -> int | None:
    """Return the bytes of the masked frame that begins at `at`; None when its head is not whole."""
    if len(data) - at < 2:
        return None
    length = data[at + 1] & _LENGTH
    if length < 126:
        return 6 + length
    wide = 2 if length == 126 else 8
    if len(data) - at < 2 + wide:
        return None
    return 6 + wide + int.from_bytes(data[at + 2 : at + 2 + wide], "big")


def metered(request: web.Request, pulse: Pulse, broken: Broken) -> None:
    """Put a meter before the parser of an upgraded connection."""
    protocol: Any = request.protocol
    # The library has no seam here; that it works is tested.
    protocol._payload_parser = Meter(protocol._payload_parser, pulse, broken)
