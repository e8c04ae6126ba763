from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.proxy import Proxy, proxied
from tests.support.waiting import eventually


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with proxied(f"{host}:{port}") as made:
        yield made
    server.close()


async def connect(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def test_what_is_said_goes_both_ways(proxy: Proxy) -> None:
    reader, writer = await connect(proxy)
    writer.write(b"hello\n")

    assert await reader.readline() == b"hello\n"
    writer.close()


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_frozen_way_delivers_when_it_is_healed(proxy: Proxy, direction: str) -> None:
    reader, writer = await connect(proxy)
    proxy.freeze(direction)  # type: ignore[arg-type]  # a Direction
    writer.write(b"late\n")
    answer = asyncio.create_task(reader.readline())
    await asyncio.sleep(0.05)
    assert not answer.done()

    proxy.heal()

    assert await answer == b"late\n"
    writer.close()


async def test_a_cut_breaks_what_is_open_and_lets_new_ones_in(proxy: Proxy) -> None:
    reader, writer = await connect(proxy)
    writer.write(b"x\n")
    await reader.readline()

    proxy.cut()

    with pytest.raises(ConnectionResetError):
        await reader.readline()
    writer.close()
    again, other = await connect(proxy)
    other.write(b"y\n")
    assert await again.readline() == b"y\n"
    other.close()


async def test_a_cut_finds_who_has_come_and_is_not_connected_yet(proxy: Proxy) -> None:
    connecting = asyncio.create_task(connect(proxy))
    await eventually(lambda: proxy.accepted == 1, every_s=0)

    proxy.cut()

    reader, writer = await connecting
    with pytest.raises(ConnectionResetError):
        await reader.readline()
    writer.close()


async def test_whoever_comes_is_hung_up_on_while_it_refuses(proxy: Proxy) -> None:
    proxy.refuse()
    reader, writer = await connect(proxy)

    with pytest.raises(ConnectionResetError):
        await reader.readline()
    writer.close()
    await eventually(lambda: proxy.accepted == 1)
