"""RFC 6455 as Autobahn's cases test it, against the bridge's sockets, with an echo behind them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
from aiohttp import WSMsgType, web
from kosoku import run_fuzzingclient

from services.edge.core.pulse import Pulse
from services.edge.servicer.handshake import answer_close, unopened
from services.edge.servicer.meter import metered, wire_bytes_max

# Left out: messages of many megabytes, which are above the bridge's limit, and compression, which
# it never negotiates.
LEFT_OUT = ["9.*", "12.*", "13.*"]


@pytest.fixture(autouse=True, scope="module")
def forgotten_shim() -> Iterator[None]:
    """Forget the half of `pkg_resources` the fuzzer brings: pytest takes it for the whole."""
    yield
    sys.modules.pop("pkg_resources", None)


# Collecting this module is enough to bring it.
sys.modules.pop("pkg_resources", None)


async def echo(request: web.Request) -> web.WebSocketResponse:
    socket = unopened()
    await socket.prepare(request)
    meter = metered(request, wire_bytes_max, Pulse(30, 15), lambda: None)
    while True:
        message = await socket.receive()
        meter.reset()
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
        elif message.type is WSMsgType.PING:
            await socket.pong(message.data)
        elif message.type is not WSMsgType.PONG:
            if message.type is WSMsgType.CLOSE:
                await answer_close(socket, message.data)
            return socket


@pytest.fixture
async def port() -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_get("/{path:.*}", echo)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def test_every_case_of_autobahn_passes(port: int) -> None:
    async with asyncio.timeout(50):
        results = await run_fuzzingclient(f"127.0.0.1:{port}", None, LEFT_OUT, concurrency=2)

    assert len(results) > 240
    verdicts = {each.behavior.value for each in results}
    assert verdicts <= {"OK", "NON-STRICT", "INFORMATIONAL"}, verdicts
