from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration

from services.kernel.errors import ResourceExhausted
from services.kernel.rpc import Guard, from_rpc_error
from services.kernel.writing import write
from tests.support.processes import ROOT

TURNS = 60
"""Of ten streams that ended while they were written to, several once lost the reason."""


class Refusing(grpc.GenericRpcHandler):
    """Reads one message and ends the stream, by a refusal or in order."""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        async def refuse(
            requests: AsyncIterator[Duration], context: Any
        ) -> AsyncIterator[Duration]:
            await anext(aiter(requests))
            if details.method == "/toy/Refuse":  # type: ignore[attr-defined]  # the types lack it
                raise ResourceExhausted("FULL", "Come back later.", retry_after_s=7.0)
            return
            yield

        return grpc.stream_stream_rpc_method_handler(
            refuse, Duration.FromString, Duration.SerializeToString
        )


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server(interceptors=[Guard()])
    server.add_generic_rpc_handlers([Refusing()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as made:
        yield made
    await server.stop(None)


def called(channel: grpc.aio.Channel, method: str) -> Any:
    make = channel.stream_stream(
        method,
        request_serializer=Duration.SerializeToString,
        response_deserializer=Duration.FromString,
    )
    return make()


async def write_on(call: Any) -> None:
    while True:
        await write(call, Duration(seconds=1))


async def test_the_reason_of_the_peer_is_told_although_more_was_being_written(
    channel: grpc.aio.Channel,
) -> None:
    for _ in range(TURNS):
        call = called(channel, "/toy/Refuse")
        writing = asyncio.create_task(write_on(call))
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call.read()
        with pytest.raises(grpc.aio.AioRpcError) as of_writing:
            await writing

        for error in (from_rpc_error(ended.value), from_rpc_error(of_writing.value)):
            assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "FULL")
            assert error.retry_after_s == 7.0


async def test_a_stream_that_the_peer_ends_in_order_is_over_and_no_fault(
    channel: grpc.aio.Channel,
) -> None:
    for _ in range(TURNS // 3):
        call = called(channel, "/toy/End")
        writing = asyncio.create_task(write_on(call))

        assert await call.read() is grpc.aio.EOF

        with pytest.raises(asyncio.InvalidStateError):
            await writing


async def test_a_call_of_another_make_is_written_to_as_it_offers() -> None:
    written = []

    class Call:
        async def write(self, message: Any) -> None:
            written.append(message)

    await write(Call(), Duration(seconds=1))

    assert written == [Duration(seconds=1)]


def test_no_service_writes_to_a_stream_otherwise() -> None:
    otherwise = {
        path.name
        for path in (ROOT / "services").rglob("*.py")
        if re.search(r"\bcall\.write\(", path.read_text("utf-8"))
    }

    assert otherwise == {"writing.py"}
