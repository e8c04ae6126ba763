"""Streams of bytes: what is encoded once is not decoded to be encoded again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from podium.v1 import task_scheduler_pb2, task_scheduler_pb2_grpc
from services.kernel.rpc import Context
from services.task_scheduler.servicer.front import Front
from services.task_scheduler.servicer.service import TaskScheduler

M = TypeVar("M")

_MESSAGES: Mapping[str, Any] = {
    "WatchTasks": task_scheduler_pb2.WatchTasksResponse,
    "WatchEvents": task_scheduler_pb2.WatchEventsResponse,
    "OpenDispatch": task_scheduler_pb2.OpenDispatchResponse,
}


def add_to_server(servicer: TaskScheduler | Front, server: Any) -> None:
    """Add the servicer; its streams send bytes that are encoded already.

    On the wire they pass as they are. Within a process, where messages are handed over, they are
    parsed.
    """
    changing: Any = _Encoded(server, parsed=not isinstance(server, grpc.aio.Server))
    task_scheduler_pb2_grpc.add_TaskSchedulerServiceServicer_to_server(servicer, changing)


class _Encoded:
    """Stands for a server while handlers are added, to change those of encoded streams."""

    def __init__(self, server: Any, *, parsed: bool) -> None:
        self._server = server
        self._parsed = parsed

    def add_generic_rpc_handlers(self, handlers: Iterable[Any]) -> None:
        """Leave this to the other, which gets the handlers themselves."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        changed = {name: self._changed(name, handler) for name, handler in handlers.items()}
        generic = grpc.method_handlers_generic_handler(service, changed)
        self._server.add_generic_rpc_handlers((generic,))
        self._server.add_registered_method_handlers(service, changed)

    def _changed(self, name: str, handler: Any) -> Any:
        message = _MESSAGES.get(name)
        if message is None:
            # Drafting a task changes its message, and within a process that is the caller's.
            owning = _OWNING.get(name) if self._parsed else None
            return owning(handler) if owning else handler
        behavior = handler.stream_stream or handler.unary_stream
        if self._parsed:
            behavior = _parsing(behavior, message.FromString)
        wrap = (
            grpc.stream_stream_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_stream_rpc_method_handler
        )
        return wrap(behavior, handler.request_deserializer, bytes)


def _owning(handler: Any) -> Any:
    async def unary(request: Message, context: Context) -> Any:
        copy = type(request)()
        copy.CopyFrom(request)
        return await handler.unary_unary(copy, context)

    return grpc.unary_unary_rpc_method_handler(
        unary, handler.request_deserializer, handler.response_serializer
    )


def _owning_each(handler: Any) -> Any:
    async def copies(requests: AsyncIterator[Message]) -> AsyncIterator[Message]:
        async for request in requests:
            copy = type(request)()
            copy.CopyFrom(request)
            yield copy

    return grpc.stream_stream_rpc_method_handler(
        lambda requests, context: handler.stream_stream(copies(requests), context),
        handler.request_deserializer,
        handler.response_serializer,
    )


_OWNING: Mapping[str, Callable[[Any], Any]] = {
    "SubmitTasks": _owning,
    "OpenSubmission": _owning_each,
}


def _parsing(behavior: Any, parse: Callable[[bytes], M]) -> Callable[[Any, Context], Any]:
    async def stream(request: Any, context: Context) -> AsyncIterator[M]:
        async with aclosing(behavior(request, context)) as chunks:
            async for chunk in chunks:
                yield parse(chunk)

    return stream
