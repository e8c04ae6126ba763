# ruff: noqa: D102  (the classes of grpc.aio describe the methods implemented here)
"""One call between two tasks of a process: both directions bounded, no bytes in between.

It behaves as a call of grpc.aio does at both ends, so that a servicer and a client cannot tell the
difference. Messages are handed over as they are: a receiver must not change them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio

Pairs = tuple[tuple[str, str | bytes], ...]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

queue_len_max = 64
"""Messages under way in one direction before the writer waits, as HTTP/2's window makes it."""


class Pipe:
    """A bounded queue of messages with an end."""

    def __init__(self) -> None:
        self._messages: deque[Any] = deque()
        self._readers: deque[asyncio.Future[None]] = deque()
        self._writers: deque[asyncio.Future[None]] = deque()
        self.ended = False

    def __len__(self) -> int:
        return len(self._messages)

    def offer(self, message: Any) -> None:
        """Add `message` without waiting, unless the pipe has ended."""
        if not self.ended:
            self._messages.append(message)
            _wake(self._readers)

    async def put(self, message: Any) -> bool:
        """Add `message` when there is room; return False when the pipe has ended instead."""
        while not self.ended and len(self._messages) >= queue_len_max:
            await self._wait(self._writers)
        if self.ended:
            return False
        self._messages.append(message)
        _wake(self._readers)
        return True

    async def get(self) -> Any:
        """Return the next message, or `grpc.aio.EOF`."""
        while not self._messages:
            if self.ended:
                return grpc.aio.EOF
            await self._wait(self._readers)
        message = self._messages.popleft()
        _wake(self._writers)
        return message

    def end(self, *, discard: bool = False) -> None:
        """Take no more; what is inside can still be read unless it is discarded."""
        self.ended = True
        if discard:
            self._messages.clear()
        for waiters in (self._readers, self._writers):
            while waiters:
                _wake(waiters)

    async def _wait(self, waiters: deque[asyncio.Future[None]]) -> None:
        waiter = asyncio.get_running_loop().create_future()
        waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            # The turn this waiter was given must not get lost with it.
            if waiter.done() and not waiter.cancelled():
                _wake(waiters)
            elif waiter in waiters:
                waiters.remove(waiter)
            raise


def _wake(waiters: deque[asyncio.Future[None]]) -> None:
    while waiters:
        waiter = waiters.popleft()
        if not waiter.done():
            waiter.set_result(None)
            return


class Exchange:
    """The state both ends of a call share."""

    def __init__(self, method: str, metadata: Iterable[Any], timeout: float | None) -> None:
        self.method = method
        self.metadata: Pairs = tuple((key, value) for key, value in metadata)
        self.requests = Pipe()
        self.responses = Pipe()
        self.initial: asyncio.Future[Pairs] = asyncio.get_running_loop().create_future()
        self.code: grpc.StatusCode | None = None
        self.details = ""
        self.trailing: Pairs = ()
        self.settled = asyncio.Event()
        self.server: asyncio.Task[None] | None = None
        self._ending: tuple[grpc.StatusCode, str, Pairs] | None = None
        self._callbacks: list[Callable[[], None]] = []
        loop = asyncio.get_running_loop()
        self._deadline = None if timeout is None else loop.time() + timeout
        self._timer = None if timeout is None else loop.call_later(max(0.0, timeout), self._expire)

    def time_remaining(self) -> float | None:
        """Return the seconds to the deadline, None when there is none."""
        if self._deadline is None:
            return None
        return max(0.0, self._deadline - asyncio.get_running_loop().time())

    def on_settled(self, callback: Callable[[], None]) -> None:
        """Call `callback` once the client can see the status, at once if it already can."""
        if self.code is not None:
            callback()
        else:
            self._callbacks.append(callback)

    def finish(self, code: grpc.StatusCode, details: str = "", trailing: Pairs = ()) -> None:
        """End the call from the server's side: the client reads what was sent, then the status."""
        if self._ending is not None or self.code is not None:
            return
        self._ending = (code, details, trailing)
        self.requests.end(discard=True)
        self.responses.end()
        self.drained()

    def drained(self) -> None:
        """Settle a call the server has ended once nothing is left to read."""
        if self._ending is not None and not self.responses:
            self._settle(*self._ending)

    def break_off(self, code: grpc.StatusCode, details: str) -> None:
        """End the call at once, for both sides: cancelled, out of time, or the server is gone."""
        if self.code is not None:
            return
        self._settle(code, details, ())
        self.requests.end(discard=True)
        self.responses.end(discard=True)
        if self.server is not None:
            self.server.cancel()

    async def read(self) -> Any:
        """Read a response for the client, or `grpc.aio.EOF`."""
        message = await self.responses.get()
        self.drained()
        return message

    def _expire(self) -> None:
        self.break_off(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def _settle(self, code: grpc.StatusCode, details: str, trailing: Pairs) -> None:
        if self.code is not None:
            return
        self.code, self.details, self.trailing = code, details, trailing
        if not self.initial.done():
            self.initial.set_result(())
        if self._timer is not None:
            self._timer.cancel()
        self.settled.set()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()


class Context(grpc.aio.ServicerContext[Any, Any]):
    """What a handler sees of the call."""

    def __init__(self, exchange: Exchange, address: str) -> None:
        self._exchange = exchange
        self._address = address
        self._code = grpc.StatusCode.OK
        self._details = ""
        self._trailing: Pairs = ()

    async def read(self) -> Any:
        return await self._exchange.requests.get()

    async def write(self, message: Any) -> None:
        await self.send_initial_metadata(())
        if not await self._exchange.responses.put(message):
            # What the transport says when the other side is gone.
            raise grpc.aio.InternalError("The call has ended.")

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        if not self._exchange.initial.done():
            self._exchange.initial.set_result(tuple(initial_metadata))

    async def abort(
        self,
        code: grpc.StatusCode,
        details: str = "",
        trailing_metadata: Any = (),
    ) -> NoReturn:
        self._code, self._details = code, details
        self._trailing = tuple(trailing_metadata) or self._trailing
        raise grpc.aio.AbortError("Locally aborted.")

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        await self.abort(status.code, status.details, status.trailing_metadata)

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        self._trailing = tuple(trailing_metadata)

    def invocation_metadata(self) -> Any:
        return self._exchange.metadata

    def set_code(self, code: grpc.StatusCode) -> None:
        self._code = code

    def set_details(self, details: str) -> None:
        self._details = details

    def set_compression(self, compression: grpc.Compression) -> None:
        """Accept and ignore it: there are no bytes to compress."""

    def disable_next_message_compression(self) -> None:
        """Accept and ignore it: there are no bytes to compress."""

    def peer(self) -> str:
        return f"inprocess:{self._address}"

    def peer_identities(self) -> Any:
        return None

    def peer_identity_key(self) -> str | None:
        return None

    def auth_context(self) -> Any:
        return {}

    def time_remaining(self) -> Any:
        return self._exchange.time_remaining()

    def trailing_metadata(self) -> Any:
        return self._trailing

    def code(self) -> Any:
        return self._code

    def details(self) -> Any:
        return self._details

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._exchange.on_settled(lambda: callback(self))

    def cancelled(self) -> bool:
        return self._exchange.code in (
            grpc.StatusCode.CANCELLED,
            grpc.StatusCode.DEADLINE_EXCEEDED,
        )

    def done(self) -> bool:
        return self._exchange.code is not None

    def finish(self) -> None:
        """End the call with the status the handler has chosen."""
        self._exchange.finish(self._code, self._details, self._trailing)


async def serve(exchange: Exchange, handler: Handler, address: str) -> None:
    """Run `handler`, which is guarded and so a coroutine function, at the server's end."""
    context = Context(exchange, address)
    behavior: Any = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    try:
        if handler.request_streaming:
            request: Any = _requests(context)
        else:
            request = await context.read()
        answer: Awaitable[Any] = behavior(request, context)
        response = await answer
        if not handler.response_streaming:
            await context.write(response)
        context.finish()
    except grpc.aio.AbortError:
        context.finish()
    except grpc.aio.InternalError:
        exchange.break_off(grpc.StatusCode.CANCELLED, "The call has ended.")
    except asyncio.CancelledError:
        exchange.break_off(grpc.StatusCode.UNAVAILABLE, "Cancelling all calls")
        raise


async def _requests(context: Context) -> AsyncIterator[Any]:
    while (message := await context.read()) is not grpc.aio.EOF:
        yield message
