"""The outbound frames of a stream: at once when quiet, coalesced under load.

A message costs the transport about 150 us a side whatever it holds and a frame 2 us.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")

BATCH_LEN_MAX = 256
LINGER_S_MIN = 0.001
LINGER_S_MAX = 0.004


class Outbox(Generic[T]):
    """An ordered queue with one reader that takes batches; used on one loop."""

    def __init__(self, *, batch_len_max: int = BATCH_LEN_MAX) -> None:
        self._items: deque[T] = deque()
        self._batch_len_max = batch_len_max
        self._waiter: asyncio.Future[None] | None = None
        self._wake_len = 1
        self._ready_at = 0.0
        self._hold_until = 0.0
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        """Queues one item; after `close` it is dropped."""
        if not self._closed:
            self._items.append(item)
            self._wake()

    def extend(self, items: Iterable[T], *, hold_s: float = 0.0) -> None:
        """Queues items; after `close` they are dropped.

        Args:
            items: what is to be sent, in order.
            hold_s: how long they may wait for others that they can leave with.
        """
        if self._closed:
            return
        if hold_s and not self._items:
            self._hold_until = time.monotonic() + hold_s
        elif self._hold_until and not hold_s:
            # What they waited for: the reader looks again at when it may send.
            self._hold_until = 0.0
            self._wake_len = 1
        self._items.extend(items)
        self._wake()

    def close(self) -> None:
        """Accepts nothing more; the reader gets what is queued and then an empty batch."""
        self._closed = True
        self._wake_len = 0
        self._wake()

    async def take(self) -> list[T]:
        """Returns the next batch, empty at the end.

        A batch leaves at once unless the one before it held several items and left a moment ago;
        then this one gathers for the rest of that moment, or until it is full.
        """
        while not self._items and not self._closed:
            await self._wait(1, None)
        while len(self._items) < self._batch_len_max and not self._closed:
            wait_s = max(self._ready_at, self._hold_until) - time.monotonic()
            if wait_s <= 0:
                break
            await self._wait(self._batch_len_max, wait_s)
        self._hold_until = 0.0
        popleft = self._items.popleft
        batch = [popleft() for _ in range(min(len(self._items), self._batch_len_max))]
        share = min(1.0, len(batch) / 16)
        linger_s = LINGER_S_MIN + share * (LINGER_S_MAX - LINGER_S_MIN)
        self._ready_at = time.monotonic() + linger_s if len(batch) > 1 else 0.0
        return batch

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and len(self._items) >= self._wake_len and not waiter.done():
            waiter.set_result(None)

    async def _wait(self, wake_len: int, timeout_s: float | None) -> None:
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        self._wake_len = wake_len
        timer = loop.call_later(timeout_s, self._timeout, waiter) if timeout_s else None
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    @staticmethod
    def _timeout(waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            waiter.set_result(None)
