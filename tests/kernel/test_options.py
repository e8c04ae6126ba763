"""gRPC ignores an option it does not know, so the spellings are proved by what they do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from services.kernel import limits, options
from services.kernel.options import channel_options, dial, server_options
from services.kernel.rpc import Guard
from tests.kernel.toy import Stub, Toy, forever, text
from tests.support.proxy import proxied

TRIPLE = {
    "grpc.keepalive_time_ms",
    "grpc.keepalive_timeout_ms",
    "grpc.http2.ping_timeout_ms",
}


@pytest.mark.parametrize("chosen", [server_options(), channel_options()])
def test_both_sides_bound_messages_and_set_all_of_keepalive(chosen: options.Options) -> None:
    values = dict(chosen)

    assert len(values) == len(chosen), "an option is set twice"
    assert TRIPLE <= set(values)
    assert values["grpc.max_receive_message_length"] == limits.message_bytes_max
    assert values["grpc.max_send_message_length"] == limits.message_bytes_max
    assert "grpc.max_metadata_size" in values and "grpc.absolute_max_metadata_size" in values


def test_clients_ping_no_faster_than_servers_allow() -> None:
    server, channel = dict(server_options()), dict(channel_options())

    allowed_ms = server["grpc.http2.min_ping_interval_without_data_ms"]
    assert channel["grpc.keepalive_time_ms"] > allowed_ms
    # The spelling of the C macro, which nothing reads.
    assert "grpc.http2.min_recv_ping_interval_without_data_ms" not in server


def test_a_lost_peer_is_tried_again_within_seconds() -> None:
    channel = dict(channel_options())

    assert channel["grpc.initial_reconnect_backoff_ms"] == 100
    assert channel["grpc.max_reconnect_backoff_ms"] == 2_000


@asynccontextmanager
async def serving(chosen: options.Options, toy: Toy) -> AsyncIterator[int]:
    server = grpc.aio.server(interceptors=[Guard()], options=chosen)
    toy.register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


def with_value(chosen: options.Options, **changed: int) -> options.Options:
    names = {name.rsplit(".", 1)[-1]: name for name, _ in chosen}
    values = dict(chosen)
    for short, value in changed.items():
        values[names[short]] = value
    return list(values.items())


async def test_a_second_server_cannot_share_the_port() -> None:
    async with serving(server_options(), Toy()) as port:
        second = grpc.aio.server(options=server_options())
        with pytest.raises(RuntimeError, match="bind"):
            second.add_insecure_port(f"127.0.0.1:{port}")


async def test_a_silent_connection_is_closed() -> None:
    chosen = with_value(server_options(), server_handshake_timeout_ms=300)
    async with serving(chosen, Toy()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(5):
            while await reader.read(1_024):
                pass
        writer.close()


async def test_of_several_addresses_one_that_answers_is_taken() -> None:
    # Nothing listens on port 1.
    async with (
        serving(server_options(), Toy()) as port,
        dial(f"127.0.0.1:1,127.0.0.1:{port}") as channel,
    ):
        assert (await Stub(channel).unary(text("x"))).value


async def test_a_peer_that_takes_its_time_to_answer_is_reached() -> None:
    async with (
        serving(server_options(), Toy()) as port,
        proxied(f"127.0.0.1:{port}") as busy,
        dial(busy.address) as channel,
    ):
        busy.freeze("down")
        # Longer than the backoff, which is not how long a connection may take.
        asyncio.get_running_loop().call_later(0.3, busy.heal)
        assert (await Stub(channel).unary(text("x"))).value


async def test_headers_beyond_the_limit_are_refused() -> None:
    async with serving(server_options(), Toy()) as port, dial(f"127.0.0.1:{port}") as channel:
        stub = Stub(channel)
        await stub.unary(text("x"), metadata=(("k", "v" * 4_096),))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.unary(text("x"), metadata=(("k", "v" * 9_000),))

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_frequent_pings_of_a_quiet_stream_are_allowed() -> None:
    toy = Toy()
    toy.both = forever
    server = with_value(server_options(), min_ping_interval_without_data_ms=100)
    channel_opts = with_value(channel_options(), keepalive_time_ms=1_000)
    async with serving(server, toy) as port:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=channel_opts) as channel:
            call: Any = Stub(channel).both()
            reading = asyncio.ensure_future(call.read())
            # Without the allowance the server ends the connection at the third ping.
            done, _ = await asyncio.wait([reading], timeout=5)
            assert not done
            call.cancel()
            await asyncio.gather(reading, return_exceptions=True)


class Relay:
    """Stands between two ends; frozen, it takes everything and gives nothing.

    So does a stopped process, whose kernel still acknowledges.
    """

    def __init__(self, port: int) -> None:
        self.frozen = False
        self._port = port
        self._pumps: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> str:
        self._listener = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return f"127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._port)
        for ends in ((reader, inner_writer), (inner_reader, writer)):
            self._pumps.append(asyncio.create_task(self._pump(*ends)))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                if not self.frozen:
                    sink.write(data)
        finally:
            sink.close()


async def test_a_peer_that_froze_is_noticed() -> None:
    chosen = with_value(
        channel_options(), keepalive_time_ms=1_000, keepalive_timeout_ms=500, ping_timeout_ms=500
    )
    async with serving(server_options(), Toy()) as port:
        relay = Relay(port)
        async with relay as address, grpc.aio.insecure_channel(address, options=chosen) as channel:
            call: Any = Stub(channel).both()
            await call.write(text("x"))
            assert (await call.read()).value == "x"
            relay.frozen = True
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async with asyncio.timeout(20):
                    await call.read()

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_channel_connects_when_its_peer_appears() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with dial(f"127.0.0.1:{port}") as channel:
        call = Stub(channel).unary(text("x"), wait_for_ready=True, timeout=10)
        server = grpc.aio.server(options=server_options())
        Toy().register(server)
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        assert (await call).value == "x"
        await server.stop(0)
