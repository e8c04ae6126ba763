from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from podium.sdk.writing import write
from podium.v1 import routing_pb2, routing_pb2_grpc
from tests.sdk.fakes import router_of, serving

REQUEST = routing_pb2.OpenSessionRequest()
TURNS = 60
"""Of ten streams that end while they are written to, nine once lost the reason."""


class Refusing(routing_pb2_grpc.RoutingServiceServicer):
    """Reads one message and ends the stream with a reason."""

    async def OpenSession(
        self, requests: AsyncIterator[routing_pb2.OpenSessionRequest], context: Any
    ) -> AsyncIterator[routing_pb2.OpenSessionResponse]:
        await anext(aiter(requests))
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the reason")
        yield routing_pb2.OpenSessionResponse()


async def write_on(call: Any) -> None:
    while True:
        await write(call, REQUEST)


async def test_the_reason_of_the_peer_is_told_although_more_was_being_written() -> None:
    told = []
    async with serving(router_of(Refusing())) as address:
        async with grpc.aio.insecure_channel(address) as channel:
            for _ in range(TURNS):
                call = routing_pb2_grpc.RoutingServiceStub(channel).OpenSession()
                writing = asyncio.create_task(write_on(call))
                with pytest.raises(grpc.aio.AioRpcError) as ended:
                    await call.read()
                with pytest.raises(asyncio.InvalidStateError):
                    await writing
                told.append((ended.value.code(), ended.value.details()))

    assert told == [(grpc.StatusCode.RESOURCE_EXHAUSTED, "the reason")] * TURNS


async def test_a_call_of_another_make_is_written_to_as_it_offers() -> None:
    written = []

    class Call:
        async def write(self, message: Any) -> None:
            written.append(message)

    await write(Call(), REQUEST)

    assert written == [REQUEST]
