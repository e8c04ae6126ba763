"""The one event loop of a process that does gRPC, and how other threads hand it work.

grpc.aio serves exactly one event loop of a process well. By default that loop runs on a thread of
its own, shared by every client and agent of the process: so a handler that blocks the program's
loop delays neither heartbeats nor renewals. A program that runs no blocking code may let its own
loop do gRPC (`inline`), which saves the hand-over.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

import grpc.aio

from podium.sdk.threads import aside

T = TypeVar("T")

message_bytes_max = 4 * 1024 * 1024
connect_s_max = 5.0
_PING_TIMEOUT_MS = 5_000

# Keepalive needs all three: without ping_timeout a frozen peer, whose kernel still acknowledges,
# is noticed only after a minute. The backoff finds a restarted server within seconds. What gRPC
# calls the least backoff is how long a connection may take to come about, as long as servers of
# Podium wait for one: 100 ms would keep out whoever is a world away from a router, and have a fleet
# that returns to a busy one begin again and again, each time for more work than a connection is.
CHANNEL_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", message_bytes_max),
    ("grpc.max_send_message_length", message_bytes_max),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_MS),
    ("grpc.http2.ping_timeout_ms", _PING_TIMEOUT_MS),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", round(connect_s_max * 1e3)),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]

Dial = Callable[[str], grpc.aio.Channel]
"""Gives a channel to `host:port`; called on the wire's loop."""


def dial(address: str, *, fresh: bool = False) -> grpc.aio.Channel:
    """Returns a channel to `host:port`; it connects when it is used.

    Args:
        address: where to.
        fresh: take no part in gRPC's sharing of connections between channels.
    """
    own = [("grpc.use_local_subchannel_pool", 1)] if fresh else []
    return grpc.aio.insecure_channel(address, options=[*CHANNEL_OPTIONS, *own])


class Wire:
    """The loop that does gRPC, seen from the loop that uses it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, inline: bool) -> None:
        self.loop = loop
        self.inline = inline

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the wire's loop and returns what it returns."""
        if self.inline:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))


class Mailbox(Generic[T]):
    """Passes items to another loop, many per wake-up, in order. `post` may be called anywhere."""

    def __init__(self, loop: asyncio.AbstractEventLoop, consume: Callable[[list[T]], None]) -> None:
        self._items: deque[T] = deque()
        self._consume = consume
        self._awake = False
        self._wake = loop.call_soon_threadsafe

    def post(self, item: T) -> None:
        """Leaves one item."""
        self._items.append(item)
        if not self._awake:
            self._awake = True
            self._wake(self._deliver)

    def post_all(self, items: list[T]) -> None:
        """Leaves several items."""
        self._items.extend(items)
        if not self._awake:
            self._awake = True
            self._wake(self._deliver)

    def _deliver(self) -> None:
        # First the flag, then the items: a post in between wakes once too often, never too rarely.
        self._awake = False
        popleft, items = self._items.popleft, self._items
        self._consume([popleft() for _ in range(len(items))])


class _Shared:
    """The wire's thread, alive while anyone uses it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def acquire(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            self._users += 1
            if self._loop is None:
                started = threading.Event()
                self._loop = new_loop()
                self._thread = threading.Thread(
                    target=self._run, args=(self._loop, started), name="podium-wire", daemon=True
                )
                self._thread.start()
                started.wait()
            return self._loop

    def release(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users or self._loop is None or self._thread is None:
                return
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop = self._thread = None

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop, started: threading.Event) -> None:
        asyncio.set_event_loop(loop)
        loop.call_soon(started.set)
        try:
            loop.run_forever()
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()


_shared = _Shared()


def new_loop() -> asyncio.AbstractEventLoop:
    """Returns a new event loop, uvloop's where it is installed: a message costs a fifth less."""
    try:
        # Optional: only the services require it.
        import uvloop  # noqa: PLC0415 - optional dependency
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def acquire(*, inline: bool = False) -> Wire:
    """Returns the wire; call `release` with it once for each call of this.

    Args:
        inline: let the running loop do gRPC itself. Then nothing else in the process may use the
            shared thread.
    """
    if inline:
        return Wire(asyncio.get_running_loop(), inline=True)
    return Wire(_shared.acquire(), inline=False)


async def release(wire: Wire) -> None:
    """Gives the wire back; the last user ends its thread."""
    if not wire.inline:
        # Joining waits for the other thread, so not on the caller's loop.
        await aside(_shared.release)
