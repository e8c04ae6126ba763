"""A toy service with one method of each kind, reached over the wire or in process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from google.protobuf.wrappers_pb2 import StringValue

from services.kernel.inprocess import InProcessHub
from services.kernel.options import channel_options, server_options
from services.kernel.rpc import Guard

SERVICE = "podium.test.Toy"


def path(method: str) -> str:
    return f"/{SERVICE}/{method}"


class Toy:
    """What each method does is given by the test, as `toy.unary = ...`."""

    def __init__(self) -> None:
        self.unary: Callable[[Any, Any], Any] = echo
        self.down: Callable[[Any, Any], Any] = count_down
        self.up: Callable[[Any, Any], Any] = join
        self.both: Callable[[Any, Any], Any] = echo_each

    def register(self, server: Any) -> None:
        codec = {
            "request_deserializer": StringValue.FromString,
            "response_serializer": StringValue.SerializeToString,
        }

        async def unary(request: Any, context: Any) -> Any:
            return await self.unary(request, context)

        def down(request: Any, context: Any) -> Any:
            return self.down(request, context)

        async def up(requests: Any, context: Any) -> Any:
            return await self.up(requests, context)

        def both(requests: Any, context: Any) -> Any:
            return self.both(requests, context)

        handlers = {
            "Unary": grpc.unary_unary_rpc_method_handler(unary, **codec),
            "Down": grpc.unary_stream_rpc_method_handler(down, **codec),
            "Up": grpc.stream_unary_rpc_method_handler(up, **codec),
            "Both": grpc.stream_stream_rpc_method_handler(both, **codec),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        server.add_registered_method_handlers(SERVICE, handlers)


class Stub:
    """The client's face of the toy, made as generated stubs are."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        codec = {
            "request_serializer": StringValue.SerializeToString,
            "response_deserializer": StringValue.FromString,
        }
        self.channel = channel
        self.unary: Any = channel.unary_unary(path("Unary"), **codec)
        self.down: Any = channel.unary_stream(path("Down"), **codec)
        self.up: Any = channel.stream_unary(path("Up"), **codec)
        self.both: Any = channel.stream_stream(path("Both"), **codec)
        self.absent: Any = channel.unary_unary(path("Absent"), **codec)


def text(value: str) -> StringValue:
    return StringValue(value=value)


async def echo(request: StringValue, context: Any) -> StringValue:
    return text(request.value)


async def count_down(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
    for number in range(int(request.value), 0, -1):
        yield text(str(number))


async def join(requests: AsyncIterator[StringValue], context: Any) -> StringValue:
    return text(",".join([request.value async for request in requests]))


async def echo_each(
    requests: AsyncIterator[StringValue], context: Any
) -> AsyncIterator[StringValue]:
    async for request in requests:
        yield text(request.value)


async def forever(*_: Any) -> Any:
    await asyncio.get_running_loop().create_future()


@asynccontextmanager
async def on_the_wire(toy: Toy, guard: Guard) -> AsyncIterator[Stub]:
    server = grpc.aio.server(interceptors=[guard], options=server_options())
    toy.register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        address = f"127.0.0.1:{port}"
        async with grpc.aio.insecure_channel(address, options=channel_options()) as channel:
            yield Stub(channel)
    finally:
        await server.stop(0)


@asynccontextmanager
async def in_process(toy: Toy, guard: Guard) -> AsyncIterator[Stub]:
    hub = InProcessHub()
    stop = hub.add(toy.register, guard)
    try:
        async with hub.dial("toy:1") as channel:
            yield Stub(channel)
    finally:
        await stop(0)


WAYS = {"wire": on_the_wire, "in process": in_process}
