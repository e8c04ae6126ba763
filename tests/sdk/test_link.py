from __future__ import annotations

import asyncio
import logging

import pytest

from podium.sdk.errors import Peer
from podium.sdk.link import Frames, Link, knock
from podium.v1.session_pb2 import AgentFrame, Hello
from tests.sdk.fakes import FakeRouter, router_of, serving
from tests.support.ports import free_port


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_knock_tells_whether_somebody_listens(host: str) -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async with server:
        assert await knock(f"{host}:{port}")

    assert not await knock(f"127.0.0.1:{free_port()}")


@pytest.mark.parametrize("address", ["unix:/run/podium.sock", "dns:///routing:443", "routing"])
async def test_where_only_a_stream_can_tell_it_is_tried(address: str) -> None:
    assert await knock(address)


async def test_a_fault_of_this_program_ends_the_stream_and_is_told_as_what_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def receive(link: Link, frames: Frames) -> None:
        raise KeyError("a2")

    async with serving(router_of(FakeRouter())) as address:
        link = Link(Peer("Routing", address, "PODIUM_ROUTING_ADDRESS"), (), receive, fresh=False)
        link.outbox.put(AgentFrame(agent_id="a1", hello=Hello(max_concurrency=1)))
        reason = await asyncio.wait_for(link.ended, 5)
        await link.close()

    assert reason.reason == "STREAM_FAILED" and "KeyError('a2')" in reason.message
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
