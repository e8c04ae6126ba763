from __future__ import annotations

import asyncio

import pytest

from podium.sdk.link import knock
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
