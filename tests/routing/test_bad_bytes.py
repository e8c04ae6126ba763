"""Bytes that are no messages of a session, row by row of the matrix, each with its code."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import grpc
import pytest

from podium.v1 import routing_pb2, session_pb2
from services.kernel import limits
from services.kernel.rpc import from_rpc_error
from tests.routing.peers import Room, room

Frame = session_pb2.AgentFrame
OPEN = "/podium.v1.RoutingService/OpenSession"


async def ended(here: Room, message: bytes, **given: Any) -> grpc.RpcError:
    """Returns the status with which a stream ends that begins with such bytes."""

    def call() -> grpc.RpcError:
        # Not by asyncio, whose streams tell a write that failed in place of the peer's status.
        with grpc.insecure_channel(f"127.0.0.1:{here.routing.port}") as channel:
            with pytest.raises(grpc.RpcError) as raised:
                next(channel.stream_stream(OPEN)(iter((message,)), **given))
            return raised.value

    return await asyncio.to_thread(call)


async def test_b1_a_message_above_the_limit() -> None:
    async with room() as here:
        status = await ended(here, b"\x0a" + bytes(limits.message_bytes_max + 10))

        assert status.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await here.wire().hello("fine")


async def test_b2_a_message_that_swells_when_it_is_unpacked() -> None:
    async with room() as here:
        hello = session_pb2.Hello(instance_id="i", name="x" * 10 * 1024 * 1024)
        bomb = routing_pb2.OpenSessionRequest(frames=[Frame(agent_id="a", hello=hello)])
        assert len(gzip.compress(bomb.SerializeToString())) < 64 * 1024

        status = await ended(here, bomb.SerializeToString(), compression=grpc.Compression.Gzip)

        assert status.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await here.wire().hello("fine")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff\xff\xff\xff", id="b4-no-message"),
        pytest.param(b"\x0a\xff", id="b4-cut-off"),
        pytest.param(b"\xa3\x06" * 110 + b"\xa4\x06" * 110, id="b6-nested-too-deep"),
        pytest.param(b"\x0a\x05\x0a\x03\xed\xa0\x80", id="b5-half-a-surrogate-pair"),
        pytest.param(b"\x0a\x04\x0a\x02\xc3\x28", id="b5-not-utf-8"),
    ],
)
async def test_b4_b5_b6_what_is_no_message(data: bytes) -> None:
    async with room() as here:
        status = await ended(here, data)

        error = from_rpc_error(status)
        assert (error.code, error.reason) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST")
        await here.wire().hello("fine")


async def test_b9_metadata_above_the_limit() -> None:
    async with room() as here:
        status = await ended(here, b"", metadata=(("x-long", "x" * 9_000),))

        assert status.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
