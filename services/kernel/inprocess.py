"""gRPC without a network: the same stubs and servicers, met in one process.

Errors, admission and deadlines apply exactly as on the wire; only the bytes are left out.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from services.kernel.exchange import Exchange, Handler, serve
from services.kernel.inprocess_calls import StreamStream, StreamUnary, UnaryStream, UnaryUnary
from services.kernel.rpc import Guard

Register = Callable[[Any], None]
"""Adds servicers to what it is given, by the generated functions."""


@dataclass
class _Details:
    method: str
    invocation_metadata: Any = ()


class _Entry:
    """The servicers added together, under one guard."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._generic: list[grpc.GenericRpcHandler] = []
        self._services: set[str] = set()
        self._calls: set[Exchange] = set()

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._generic.extend(handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        self._services.add(service_name)

    def serves(self, method: str) -> bool:
        return method.split("/")[1] in self._services or self.find(method) is not None

    def find(self, method: str) -> Handler | None:
        for generic in self._generic:
            handler: Handler | None = generic.service(_Details(method))
            if handler is not None:
                return self._guard.wrap(method, handler)
        return None

    def begin(self, exchange: Exchange, handler: Handler, address: str) -> None:
        task = asyncio.create_task(serve(exchange, handler, address))
        exchange.server = task
        self._calls.add(exchange)
        task.add_done_callback(lambda _: self._calls.discard(exchange))

    async def close(self, grace_s: float) -> None:
        """Wait for open calls, then break them off, as a server that stops does."""
        tasks = [call.server for call in self._calls if call.server is not None]
        if tasks and grace_s > 0:
            await asyncio.wait(tasks, timeout=grace_s)
        for call in list(self._calls):
            call.break_off(grpc.StatusCode.UNAVAILABLE, "Cancelling all calls")
        await asyncio.gather(*tasks, return_exceptions=True)


class InProcessHub:
    """Where the services of one process find each other.

    Servicers are added with the generated `add_XServicer_to_server(servicer, hub)`, or by `add`
    with a guard of their own. A call finds its servicer by the method, whatever the address.
    """

    def __init__(self) -> None:
        self._default = _Entry(Guard())
        self._entries = [self._default]
        self._arrivals: list[asyncio.Future[None]] = []

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Take the handlers of one servicer, as a server does."""
        self._default.add_generic_rpc_handlers(handlers)
        self._arrived()

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        """Take the name of a service, as a server does."""
        self._default.add_registered_method_handlers(service_name, method_handlers)

    def add(self, register: Register, guard: Guard) -> Callable[[float], Awaitable[None]]:
        """Add servicers under `guard`; return the function that stops them within a grace."""
        entry = _Entry(guard)
        register(entry)
        self._entries.append(entry)
        self._arrived()

        async def stop(grace_s: float) -> None:
            self._entries.remove(entry)
            await entry.close(grace_s)

        return stop

    def dial(self, address: str) -> grpc.aio.Channel:
        """Return a channel on which every service of the process is reached."""
        return _Channel(self, address)

    def begin(self, exchange: Exchange, address: str, wait_for_ready: bool | None) -> None:
        """Hand a call to its servicer, or end it when there is none."""
        for entry in self._entries:
            handler = entry.find(exchange.method)
            if handler is not None:
                entry.begin(exchange, handler, address)
                return
        if any(entry.serves(exchange.method) for entry in self._entries):
            exchange.finish(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        elif wait_for_ready:
            arrival = asyncio.get_running_loop().create_future()
            self._arrivals.append(arrival)
            arrival.add_done_callback(lambda _: self._begin_late(exchange, address))
        else:
            exchange.finish(grpc.StatusCode.UNAVAILABLE, f"Nobody serves at {address}.")

    def _begin_late(self, exchange: Exchange, address: str) -> None:
        if exchange.code is None:
            self.begin(exchange, address, True)

    def _arrived(self) -> None:
        arrivals, self._arrivals = self._arrivals, []
        for arrival in arrivals:
            arrival.set_result(None)


class _Channel(grpc.aio.Channel):
    """What stubs call instead of a connection."""

    def __init__(self, hub: InProcessHub, address: str) -> None:
        self._hub = hub
        self._address = address
        self._closed = False
        self._exchanges: weakref.WeakSet[Exchange] = weakref.WeakSet()

    async def __aenter__(self) -> _Channel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        self._closed = True
        open_calls = [call for call in self._exchanges if call.code is None]
        if grace and open_calls:
            waits = [asyncio.ensure_future(call.settled.wait()) for call in open_calls]
            _, pending = await asyncio.wait(waits, timeout=grace)
            for wait in pending:
                wait.cancel()
        for call in open_calls:
            call.break_off(grpc.StatusCode.CANCELLED, "Channel closed!")

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        kinds = grpc.ChannelConnectivity
        return kinds.SHUTDOWN if self._closed else kinds.READY

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        if self.get_state() is last_observed_state:
            # Nothing ever changes but at close, and nobody waits for that.
            await asyncio.get_running_loop().create_future()

    async def channel_ready(self) -> None:
        """Return: there is nothing to connect."""

    def unary_unary(self, method: str, *_: Any, **__: Any) -> Any:
        def call(request: Any, **options: Any) -> UnaryUnary:
            return UnaryUnary(self._begin(method, options), request)

        return call

    def unary_stream(self, method: str, *_: Any, **__: Any) -> Any:
        def call(request: Any, **options: Any) -> UnaryStream:
            return UnaryStream(self._begin(method, options), request)

        return call

    def stream_unary(self, method: str, *_: Any, **__: Any) -> Any:
        def call(request_iterator: Any = None, **options: Any) -> StreamUnary:
            return StreamUnary(self._begin(method, options), request_iterator)

        return call

    def stream_stream(self, method: str, *_: Any, **__: Any) -> Any:
        def call(request_iterator: Any = None, **options: Any) -> StreamStream:
            return StreamStream(self._begin(method, options), request_iterator)

        return call

    def _begin(self, method: str, options: dict[str, Any]) -> Exchange:
        if self._closed:
            raise grpc.aio.UsageError("Channel is closed.")
        exchange = Exchange(method, options.get("metadata") or (), options.get("timeout"))
        self._exchanges.add(exchange)
        self._hub.begin(exchange, self._address, options.get("wait_for_ready"))
        return exchange
