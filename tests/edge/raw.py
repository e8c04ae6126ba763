"""Bytes of a handshake and of frames as no library would send them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from tests.edge.conftest import Edge

HEADERS: dict[str, str | None] = {
    "Host": "127.0.0.1",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Protocol": "podium.v1.json",
}
TEXT, BINARY, CLOSE, PING = 0x81, 0x82, 0x88, 0x89


def handshake(line: str = "GET /ws HTTP/1.1", **change: str | None) -> bytes:
    """Returns a request to open a WebSocket; a header set to None is left out."""
    headers = {**HEADERS, **change}
    lines = [f"{name}: {text}" for name, text in headers.items() if text is not None]
    return "\r\n".join([line, *lines, "", ""]).encode()


def masked(first_byte: int, payload: bytes = b"", length: bytes = b"") -> bytes:
    """Returns a frame of a client; `length` spells its length otherwise than in seven bits."""
    if not length:
        assert len(payload) < 126
        length = bytes([len(payload)])
    head = bytes([first_byte, 0x80 | length[0]]) + length[1:]
    return head + bytes(4) + payload


class Frame(NamedTuple):
    first_byte: int
    payload: bytes

    @property
    def code(self) -> int:
        """Why a close closes."""
        return int.from_bytes(self.payload[:2], "big")


class RawSocket:
    """A WebSocket without a library: nothing is read, and no ping answered, unless a test does."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def hear(self) -> Frame:
        """Returns the next frame."""
        async with asyncio.timeout(10):
            first, length = await self.reader.readexactly(2)
            if length == 126:
                length = int.from_bytes(await self.reader.readexactly(2), "big")
            assert length < 127
            return Frame(first, await self.reader.readexactly(length))

    async def closed(self) -> Frame:
        """Returns the close frame, whatever comes before."""
        while (frame := await self.hear()).first_byte != CLOSE:
            pass
        return frame


@asynccontextmanager
async def raw_socket(edge: Edge, **change: str | None) -> AsyncIterator[RawSocket]:
    """Connects, and leaves the welcome unread."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port, limit=1_024)
    try:
        writer.write(handshake(**change))
        await reader.readuntil(b"\r\n\r\n")
        yield RawSocket(reader, writer)
    finally:
        writer.close()


async def status_line(edge: Edge, request: bytes) -> str:
    """Sends a request and returns the status and its phrase."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(request)
    line = await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    return line.decode().split(" ", 1)[1].strip()
