"""Calls about one partition: answered here where it is owned here, else by its owner.

The caller's token goes with the call, so that the owner sees who asks and not who passes on. A call
that was passed on names its partition, and is not passed on again: who gets it and does not own the
partition says so.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message_factory import GetMessageClass

from podium.v1 import task_scheduler_pb2
from services.kernel.errors import InvalidArgument, PodiumError, Unavailable
from services.kernel.options import Dial
from services.kernel.rpc import Context, from_rpc_error
from services.task_scheduler.ports import Places

_SERVICE = task_scheduler_pb2.DESCRIPTOR.services_by_name["TaskSchedulerService"]
_PASSED_ON = ("authorization", "traceparent")
PARTITION_KEY = "podium-partition"
RETRY_AFTER_S = 0.5
_NUMBER = re.compile(r"[0-9]|[1-9][0-9]").fullmatch
CHANNELS_MAX = 64
"""Replicas that come and go have ever new addresses."""
CLOSE_S = 60.0
MOVES_MAX = 3
"""How often a call follows a partition that moves."""


class Relay:
    """Finds who answers for a partition, and asks.

    Args:
        places: Where partitions are served.
        dial: Gives channels to other replicas.
    """

    def __init__(self, places: Places, dial: Dial) -> None:
        self.places = places
        self._dial = dial
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._closing: set[asyncio.Future[None]] = set()
        self._methods: dict[str, tuple[str, str, Any, Any]] = {}

    async def close(self) -> None:
        """Give the channels back."""
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close()

    def named(self, context: Context) -> int | None:
        """Return the partition that whoever passed a call on has named.

        Raises:
            InvalidArgument: PARTITION_UNKNOWN, there is none of this number.
        """
        for key, value in context.invocation_metadata() or ():
            if key == PARTITION_KEY:
                text = value.decode(errors="replace") if isinstance(value, bytes) else value
                number = int(text) if _NUMBER(text) else self.places.count
                if number >= self.places.count:
                    raise InvalidArgument(
                        "PARTITION_UNKNOWN",
                        f"The header {PARTITION_KEY} must name one of {self.places.count} "
                        "partitions, counted from 0: leave it out, any replica answers for all.",
                        metadata={"partition": text[:64]},
                    )
                return number
        return None

    async def unary(self, name: str, partition: int, request: Any, context: Context) -> Any:
        """Return the answer of whoever owns a partition.

        Raises:
            Unavailable: STARTING, nobody does at the moment.
        """
        for _ in range(MOVES_MAX):
            servicer = self.places.servicer(partition)
            if servicer is not None:
                return await getattr(servicer, name)(request, context)
            address = await self._address(partition, context)
            if not address:
                break
            try:
                return await self._call(name, partition, address, request, context)
            except grpc.aio.AioRpcError as error:
                refused = from_rpc_error(error)
            if not _is_elsewhere(refused):
                raise refused
            # Who owned it has given it up, and has done nothing: it is told soon who has it now.
            await self.places.known(partition, but=address)
        return await getattr(self._here(partition), name)(request, context)

    async def stream(
        self, name: str, partition: int, request: Any, context: Context
    ) -> AsyncGenerator[bytes, None]:
        """Yield the encoded answers of whoever owns a partition.

        Raises:
            Unavailable: STARTING, nobody does at the moment.
        """
        servicer = self.places.servicer(partition)
        if servicer is None:
            address = await self._address(partition, context)
            if address:
                async with aclosing(self._passed(name, partition, address, request, context)) as on:
                    async for answer in on:
                        yield answer
                return
            servicer = self._here(partition)
        async with aclosing(getattr(servicer, name)(request, context)) as answers:
            async for answer in answers:
                yield answer

    async def _passed(
        self, name: str, partition: int, address: str, request: Any, context: Context
    ) -> AsyncGenerator[bytes, None]:
        call = self._call(name, partition, address, request, context)
        try:
            async for answer in call:
                yield answer
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        finally:
            call.cancel()

    async def _address(self, partition: int, context: Context) -> str:
        """Return where a call goes on; empty when it is to be answered here, if by anybody."""
        if self.named(context) is not None:
            return ""
        address = self.places.address(partition)
        if not address:
            await self.places.known(partition)
            if self.places.servicer(partition) is None:
                address = self.places.address(partition)
        return address

    def _here(self, partition: int) -> Any:
        servicer = self.places.servicer(partition)
        if servicer is None:
            raise Unavailable(
                "STARTING",
                f"Partition {partition} is being taken over: try again.",
                metadata={"partition": str(partition)},
                retry_after_s=RETRY_AFTER_S,
            )
        return servicer

    def _call(self, name: str, partition: int, address: str, request: Any, context: Context) -> Any:
        path, kind, serialize, parse = self._methods.get(name) or self._method(name)
        shown = context.invocation_metadata() or ()
        metadata = [(key, value) for key, value in shown if key in _PASSED_ON]
        metadata.append((PARTITION_KEY, str(partition)))
        open_call = getattr(self._channel(address), kind)(
            path, request_serializer=serialize, response_deserializer=parse
        )
        return open_call(request, metadata=metadata, timeout=context.time_remaining())

    def _channel(self, address: str) -> grpc.aio.Channel:
        channel = self._channels.pop(address, None) or self._dial(address)
        # The one used last stands last; who has not been called for longest is gone.
        self._channels[address] = channel
        if len(self._channels) > CHANNELS_MAX:
            oldest = self._channels.pop(next(iter(self._channels)))
            self._closing.add(task := asyncio.ensure_future(oldest.close(CLOSE_S)))
            task.add_done_callback(self._closing.discard)
        return channel

    def _method(self, name: str) -> tuple[str, str, Any, Any]:
        method = _SERVICE.methods_by_name[name]
        serialize = GetMessageClass(method.input_type).SerializeToString
        parse = GetMessageClass(method.output_type).FromString
        kind = "unary_unary"
        if method.server_streaming:
            kind = "stream_stream" if method.client_streaming else "unary_stream"
        found = (
            f"/{_SERVICE.full_name}/{name}",
            kind,
            serialize,
            # Streams pass as they are.
            None if method.server_streaming else parse,
        )
        self._methods[name] = found
        return found


def _is_elsewhere(refused: PodiumError) -> bool:
    return refused.reason == "STARTING" and "partition" in refused.metadata


async def chained(first: Any, rest: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Yield a message that was read before, and then the others."""
    yield first
    async for message in rest:
        yield message
