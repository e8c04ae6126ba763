"""RFC 6455 as Autobahn has it, on the bridge itself: its cases want an echo, so it is taught one.

The server, its middlewares, the handshake, the meter, the sockets with their limits, pings, closes
and the end of a connection are those of Edge. Only what a whole message means is the test's.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
from aiohttp import WSMessage, hdrs, web
from kosoku import run_fuzzingclient

from services.edge import __main__ as edge_main
from services.edge.config import Settings
from services.edge.servicer.bridge import Bridge
from services.edge.servicer.wire import Wire
from services.kernel.clock import SystemClock
from services.kernel.config import load
from services.kernel.serving import running
from tests.edge.peers import Peers

# Left out: messages of many megabytes, which are above the bridge's limit, and compression, which
# it never negotiates.
LEFT_OUT = ["9.*", "12.*", "13.*"]
SPOKEN = "podium.v1.json"


@pytest.fixture(autouse=True, scope="module")
def forgotten_shim() -> Iterator[None]:
    """Forget the half of `pkg_resources` the fuzzer brings: pytest takes it for the whole."""
    yield
    sys.modules.pop("pkg_resources", None)


# Collecting this module is enough to bring it.
sys.modules.pop("pkg_resources", None)


class Echo(Bridge):
    """The bridge to peers who offer no subprotocol and want each message back."""

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        return await super().handle(
            request.clone(headers={**request.headers, hdrs.SEC_WEBSOCKET_PROTOCOL: SPOKEN})
        )

    def _greet(self, wire: Wire) -> None:
        pass

    async def _take(self, wire: Wire, message: WSMessage) -> None:
        data = message.data.encode() if isinstance(message.data, str) else message.data
        await wire.socket.send_frame(data, message.type)


async def not_offered(_: web.Request, response: web.StreamResponse) -> None:
    """Leaves out the subprotocol that the peer has not offered."""
    response.headers.popall(hdrs.SEC_WEBSOCKET_PROTOCOL, None)


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    application = edge_main.application

    def forgiving(*parts: object) -> web.Application:
        app: web.Application = application(*parts)  # type: ignore[arg-type]  # passed on
        app.on_response_prepare.append(not_offered)
        return app

    monkeypatch.setattr(edge_main, "Bridge", Echo)
    monkeypatch.setattr(edge_main, "application", forgiving)
    peers = Peers()
    settings = dataclasses.replace(
        load(Settings, {}), routing_addresses=peers.addresses, messages_per_s=1_000_000
    )
    async with running(
        edge_main.SERVICE, settings, dial=peers.dial, clock=SystemClock(), port=0
    ) as served:
        yield served.port


async def test_every_case_of_autobahn_passes(port: int) -> None:
    async with asyncio.timeout(50):
        results = await run_fuzzingclient(f"ws://127.0.0.1:{port}/ws", None, LEFT_OUT, 2)

    assert len(results) > 240
    verdicts = {each.behavior.value for each in results}
    assert verdicts <= {"OK", "NON-STRICT", "INFORMATIONAL"}, verdicts
