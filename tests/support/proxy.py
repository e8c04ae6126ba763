"""A TCP proxy that a test can cut, freeze and slow down: the network between two processes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

Direction = Literal["up", "down"]
"""From the client to the server, and back."""

PIECE_BYTES = 65_536


class Proxy:
    """Connects whoever comes with one address."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.port = 0
        self.accepted = 0
        self._flowing = {"up": asyncio.Event(), "down": asyncio.Event()}
        self._open = True
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.heal()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def freeze(self, *directions: Direction) -> None:
        """Lets nothing through, and nobody notice: what is sent stays on the way."""
        for direction in directions or ("up", "down"):
            self._flowing[direction].clear()

    def refuse(self) -> None:
        """Hangs up on whoever comes from now on."""
        self._open = False

    def heal(self) -> None:
        """Lets everything through again."""
        self._open = True
        for flowing in self._flowing.values():
            flowing.set()

    def cut(self) -> None:
        """Breaks every connection off, as a network that loses its state does (RST)."""
        for writer in list(self._writers):
            _reset(writer)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for pump in list(self._pumps):
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if not self._open:
            _reset(writer)
            return
        host, _, port = self.target.rpartition(":")
        # From here on, so that a cut finds also who has come and is not connected yet.
        self._writers.add(writer)
        try:
            onward_reader, onward = await asyncio.open_connection(host, int(port))
        except OSError:
            self._writers.discard(writer)
            _reset(writer)
            return
        if writer.is_closing():
            self._writers.discard(writer)
            _reset(onward)
            return
        self._writers.add(onward)
        pumps = [
            asyncio.create_task(self._pump(reader, onward, "up")),
            asyncio.create_task(self._pump(onward_reader, writer, "down")),
        ]
        self._pumps.update(pumps)
        for pump in pumps:
            pump.add_done_callback(self._pumps.discard)
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for each in (writer, onward):
            each.close()
            self._writers.discard(each)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(PIECE_BYTES):
                await self._flowing[direction].wait()
                writer.write(piece)
                await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            # Closing with nothing to linger for sends RST.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def proxied(target: str) -> AsyncIterator[Proxy]:
    """Runs a proxy to `target`, a `host:port`."""
    proxy = Proxy(target)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
