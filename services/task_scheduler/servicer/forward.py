"""Calls to a scheduler that stands by go to the one that owns the log, and its answers back.

The caller's token goes with the call, so that the owner sees who asks and not who passes on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message_factory import GetMessageClass

from podium.v1 import task_scheduler_pb2
from services.kernel.options import Dial
from services.kernel.rpc import Context, from_rpc_error

_SERVICE = task_scheduler_pb2.DESCRIPTOR.services_by_name["TaskSchedulerService"]
_PASSED_ON = ("authorization", "traceparent")


class Forwarding:
    """Passes calls on while there is somewhere to pass them.

    Args:
        owner_address: Returns where calls go; empty = they are answered here.
        dial: Gives channels.
    """

    def __init__(self, owner_address: Callable[[], str], dial: Dial) -> None:
        self._owner_address = owner_address
        self._dial = dial
        self._address = ""
        self._channel: grpc.aio.Channel | None = None

    async def close(self) -> None:
        """Give the channel back."""
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    def around(self, name: str, handler: Any, *, encoded: bool) -> Any:
        """Return the handler of a method that passes calls on when it must.

        Args:
            name: The method.
            handler: Answers here.
            encoded: Whether `handler` answers with bytes.
        """
        method = _SERVICE.methods_by_name[name]
        path = f"/{_SERVICE.full_name}/{name}"
        parse = None if encoded else GetMessageClass(method.output_type).FromString
        serialize = GetMessageClass(method.input_type).SerializeToString
        kind = "stream_stream" if handler.request_streaming else "unary_stream"
        if not handler.response_streaming:
            kind = "unary_unary"

        def call(address: str, request: Any, context: Context) -> Any:
            shown = context.invocation_metadata() or ()
            metadata = [(key, value) for key, value in shown if key in _PASSED_ON]
            open_call = getattr(self._to(address), kind)(
                path, request_serializer=serialize, response_deserializer=parse
            )
            return open_call(request, metadata=metadata, timeout=context.time_remaining())

        if kind == "unary_unary":
            return self._unary(handler, call)
        return self._streaming(handler, call)

    def _unary(self, handler: Any, call: Callable[..., Any]) -> Any:
        async def behavior(request: Any, context: Context) -> Any:
            address = self._owner_address()
            if not address:
                return await handler.unary_unary(request, context)
            try:
                return await call(address, request, context)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from None

        return grpc.unary_unary_rpc_method_handler(
            behavior, handler.request_deserializer, handler.response_serializer
        )

    def _streaming(self, handler: Any, call: Callable[..., Any]) -> Any:
        here = handler.stream_stream or handler.unary_stream

        async def behavior(request: Any, context: Context) -> AsyncIterator[Any]:
            address = self._owner_address()
            if not address:
                async with aclosing(here(request, context)) as answers:
                    async for answer in answers:
                        yield answer
                return
            passed_on = call(address, request, context)
            try:
                async for answer in passed_on:
                    yield answer
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from None
            finally:
                passed_on.cancel()

        wrap = (
            grpc.stream_stream_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_stream_rpc_method_handler
        )
        return wrap(behavior, handler.request_deserializer, handler.response_serializer)

    def _to(self, address: str) -> grpc.aio.Channel:
        # The channel to an earlier owner stays open for the calls on it until they end.
        if self._channel is None or address != self._address:
            self._address = address
            self._channel = self._dial(address)
        return self._channel
