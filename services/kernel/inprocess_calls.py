# ruff: noqa: D102  (the classes of grpc.aio describe the methods implemented here)
"""The client's end of calls in process, with the semantics of grpc.aio's call objects.

Also the awkward ones: cancelling a read or a write cancels the whole call, and a call nobody holds
any more is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

import grpc
import grpc.aio

from services.kernel.exchange import Exchange

_CANCELLED = "Locally cancelled by application!"


class Call(grpc.aio.Call):
    """What all four kinds share."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __del__(self) -> None:
        exchange = self._exchange
        if exchange.code is None and exchange.server is not None:
            loop = exchange.server.get_loop()
            if not loop.is_closed():
                # Not here: a finalizer may run anywhere, in the middle of anything.
                loop.call_soon_threadsafe(
                    exchange.break_off,
                    grpc.StatusCode.CANCELLED,
                    "Cancelled upon garbage collection!",
                )

    def cancelled(self) -> bool:
        return self._exchange.code is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        return self._exchange.code is not None

    def time_remaining(self) -> float | None:
        return self._exchange.time_remaining()

    def cancel(self) -> bool:
        if self._exchange.code is not None:
            return False
        self._exchange.break_off(grpc.StatusCode.CANCELLED, _CANCELLED)
        return True

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._exchange.on_settled(lambda: callback(self))

    async def initial_metadata(self) -> Any:
        return grpc.aio.Metadata(*await asyncio.shield(self._exchange.initial))

    async def trailing_metadata(self) -> Any:
        await self._exchange.settled.wait()
        return grpc.aio.Metadata(*self._exchange.trailing)

    async def code(self) -> grpc.StatusCode:
        await self._exchange.settled.wait()
        assert self._exchange.code is not None
        return self._exchange.code

    async def details(self) -> str:
        await self._exchange.settled.wait()
        return self._exchange.details

    async def debug_error_string(self) -> str:
        return await self.details()

    async def wait_for_connection(self) -> None:
        if self._exchange.code not in (None, grpc.StatusCode.OK):
            self._raise_for_status()

    def _raise_for_status(self) -> None:
        exchange = self._exchange
        if exchange.code is grpc.StatusCode.CANCELLED:
            raise asyncio.CancelledError
        if exchange.code is not None and exchange.code is not grpc.StatusCode.OK:
            raise grpc.aio.AioRpcError(
                exchange.code,
                grpc.aio.Metadata(),
                grpc.aio.Metadata(*exchange.trailing),
                details=exchange.details,
            )


class _UnaryResponse(Call):
    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self._response: Any = grpc.aio.EOF

    def __await__(self) -> Generator[Any, None, Any]:
        return self._answer().__await__()

    async def _answer(self) -> Any:
        exchange = self._exchange
        try:
            if self._response is grpc.aio.EOF:
                message = await exchange.read()
                if message is not grpc.aio.EOF:
                    self._response = message
            await exchange.settled.wait()
        except asyncio.CancelledError:
            self.cancel()
            raise
        self._raise_for_status()
        return self._response


class _StreamResponse(Call):
    def __aiter__(self) -> AsyncIterator[Any]:
        return self._responses()

    async def read(self) -> Any:
        exchange = self._exchange
        if exchange.code is None:
            try:
                message = await exchange.read()
                if message is not grpc.aio.EOF:
                    return message
                await exchange.settled.wait()
            except asyncio.CancelledError:
                self.cancel()
                raise
        self._raise_for_status()
        return grpc.aio.EOF

    async def _responses(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message


class _StreamRequest(Call):
    def __init__(self, exchange: Exchange, request_iterator: Any) -> None:
        super().__init__(exchange)
        self._written = request_iterator is not None
        self._feeding = None
        if request_iterator is not None:
            self._feeding = asyncio.create_task(_feed(exchange, request_iterator))

    async def write(self, request: Any) -> None:
        if self._feeding is not None:
            raise grpc.aio.UsageError("The request iterator of this call does the writing.")
        if self._exchange.code is not None:
            raise asyncio.InvalidStateError("RPC already finished.")
        if self._exchange.requests.ended:
            if self._written:
                raise asyncio.InvalidStateError('RPC is half closed after calling "done_writing".')
        try:
            if not await self._exchange.requests.put(request):
                await self._exchange.settled.wait()
        except asyncio.CancelledError:
            self.cancel()
            raise
        self._raise_for_status()

    async def done_writing(self) -> None:
        if self._feeding is not None:
            raise grpc.aio.UsageError("The request iterator of this call does the writing.")
        self._written = True
        self._exchange.requests.end()


async def _feed(exchange: Exchange, requests: Any) -> None:
    try:
        if hasattr(requests, "__aiter__"):
            async for request in requests:
                if not await exchange.requests.put(request):
                    return
        else:
            for request in requests:
                if not await exchange.requests.put(request):
                    return
        exchange.requests.end()
    except BaseException:
        exchange.break_off(grpc.StatusCode.CANCELLED, _CANCELLED)
        raise


class UnaryUnary(_UnaryResponse, grpc.aio.UnaryUnaryCall[Any, Any]):
    """One request, one response."""

    def __init__(self, exchange: Exchange, request: Any) -> None:
        super().__init__(exchange)
        _give(exchange, request)


class UnaryStream(_StreamResponse, grpc.aio.UnaryStreamCall[Any, Any]):
    """One request, many responses."""

    def __init__(self, exchange: Exchange, request: Any) -> None:
        super().__init__(exchange)
        _give(exchange, request)


class StreamUnary(_UnaryResponse, _StreamRequest, grpc.aio.StreamUnaryCall[Any, Any]):
    """Many requests, one response."""

    def __init__(self, exchange: Exchange, request_iterator: Any) -> None:
        _StreamRequest.__init__(self, exchange, request_iterator)
        self._response = grpc.aio.EOF


class StreamStream(_StreamResponse, _StreamRequest, grpc.aio.StreamStreamCall[Any, Any]):
    """Many of both."""


def _give(exchange: Exchange, request: Any) -> None:
    exchange.requests.offer(request)
    exchange.requests.end()
