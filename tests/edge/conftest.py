"""An edge that serves, with what is behind it faked, and sockets that talk to it."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import aiohttp
import pytest

from services.edge.__main__ import SERVICE
from services.edge.config import Settings
from services.kernel.clock import SystemClock
from services.kernel.config import load
from services.kernel.serving import running
from tests.edge.peers import Peers
from tests.support.spelling import JSON, Spelling


class Socket:
    """One WebSocket to the edge."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, spelling: Spelling = JSON) -> None:
        self.socket = socket
        self._spelling = spelling

    async def say(self, message: dict[str, Any] | str | bytes) -> None:
        """Says a message; text and bytes as they are."""
        written = self._spelling.write(message) if isinstance(message, dict) else message
        if isinstance(written, str):
            await self.socket.send_str(written)
        else:
            await self.socket.send_bytes(written)

    async def hear(self) -> dict[str, Any]:
        message = await self.socket.receive(timeout=5)
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        return self._spelling.read(message.data)

    async def ask(self, message: dict[str, Any] | str | bytes) -> dict[str, Any]:
        await self.say(message)
        return await self.hear()

    async def closed(self) -> int:
        """Returns the code with which the edge closes, whatever it says before."""
        while True:
            message = await self.socket.receive(timeout=12)
            if message.type is aiohttp.WSMsgType.CLOSE:
                return int(message.data)
            assert message.type is aiohttp.WSMsgType.TEXT, message

    async def hello(self, agent_id: str = "a-1", **fields: Any) -> dict[str, Any]:
        """Introduces an agent and returns what comes back."""
        hello = {"instanceId": "i-1", "capabilities": [{"name": "text.count"}], **fields}
        return await self.ask({"agent": {"frames": [{"agentId": agent_id, "hello": hello}]}})


class Edge(NamedTuple):
    port: int
    http: aiohttp.ClientSession
    peers: Peers
    drain: Callable[[], Awaitable[None]]
    connect: Callable[..., Awaitable[Socket]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


Start = Callable[..., Awaitable[Edge]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts an edge with the given settings."""
    async with AsyncExitStack() as stack:

        async def begin(routings: int = 1, dial: Any = None, **changed: Any) -> Edge:
            peers = Peers(routings)
            changed["routing_addresses"] = peers.addresses
            settings = dataclasses.replace(load(Settings, {}), **changed)
            served = await stack.enter_async_context(
                running(SERVICE, settings, dial=dial or peers.dial, clock=SystemClock(), port=0)
            )
            http = await stack.enter_async_context(aiohttp.ClientSession())

            async def connect(spelling: Spelling = JSON, **options: Any) -> Socket:
                options.setdefault("protocols", [spelling.subprotocol])
                socket = await stack.enter_async_context(
                    http.ws_connect(f"http://127.0.0.1:{served.port}/ws", **options)
                )
                opened = Socket(socket, spelling)
                welcome = await opened.hear()
                assert welcome["notice"]["kind"] == "WELCOME"
                return opened

            return Edge(served.port, http, peers, served.drain, connect)

        yield begin


@pytest.fixture
async def edge(start: Start) -> Edge:
    """An edge with default settings."""
    return await start()
