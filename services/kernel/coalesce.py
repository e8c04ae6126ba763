"""The outbound queue of a stream: at once when quiet, coalesced under load.

A message costs the transport about 150 us a side whatever it holds and an item 2 us, so under load
many items share one message; a quiet stream waits for nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from services.kernel import limits
from services.kernel.errors import ResourceExhausted

T = TypeVar("T")


class Sized(Protocol):
    """A message that knows how long it is on the wire."""

    def ByteSize(self) -> int:
        """Return its length in bytes."""


M = TypeVar("M", bound=Sized)

linger_s_min = 0.002
linger_s_max = 0.005
patience_s = 0.02


class Outbox(Generic[T]):
    """An ordered, bounded queue with one reader, who takes batches."""

    def __init__(
        self,
        *,
        queue_len_max: int = 16_384,
        batch_len_max: int = limits.stream_batch_len_max,
        linger_s: float = linger_s_max,
    ) -> None:
        self._queue: deque[T] = deque()
        self._queue_len_max = queue_len_max
        self._batch_len_max = batch_len_max
        self._linger_s_max = linger_s
        self._closed = False
        self._waiter: asyncio.Future[None] | None = None
        self._wake_len = 1
        self._patience: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def closed(self) -> bool:
        """True once `close` was called: nothing is accepted any more."""
        return self._closed

    def offer(self, item: T, *, patient: bool = False) -> bool:
        """Queue `item`; return False, and drop it, when the queue is full or closed.

        A patient item leaves with the next one that is not, in order, and after `patience_s` at
        the latest: nobody waits for it, and a message of its own costs 150 us a side.
        """
        queue = self._queue
        if self._closed or len(queue) >= self._queue_len_max:
            return False
        queue.append(item)
        if self._waiter is not None and len(queue) >= self._wake_len:
            if not patient:
                self._wake()
            elif self._patience is None:
                self._patience = asyncio.get_running_loop().call_later(patience_s, self._impatient)
        return True

    def put(self, item: T) -> None:
        """Queue `item`; after `close` it is dropped, since nobody is there to read it.

        Raises:
            ResourceExhausted: OUTBOX_FULL, the peer does not read.
        """
        if not self.offer(item) and not self._closed:
            raise self._full()

    def extend(self, items: Iterable[T]) -> None:
        """Queue all of `items`, or none of them.

        Raises:
            ResourceExhausted: OUTBOX_FULL, the peer does not read.
        """
        added = list(items)
        if self._closed or not added:
            return
        queue = self._queue
        if len(queue) + len(added) > self._queue_len_max:
            raise self._full()
        queue.extend(added)
        if self._waiter is not None and len(queue) >= self._wake_len:
            self._wake()

    def close(self) -> None:
        """Accept nothing more; the reader gets what is queued and then the end."""
        self._closed = True
        self._wake()

    async def batches(self) -> AsyncIterator[list[T]]:
        """Yield what is queued, in order, until the queue is closed and empty.

        A batch leaves at once unless the one before it held several items and left a moment ago:
        then this one gathers for the rest of that moment, or until it is full. The moment grows
        with the load, from 2 to 5 ms.
        """
        loop = asyncio.get_running_loop()
        queue = self._queue
        ready_at = 0.0
        while True:
            if not queue:
                if self._closed:
                    return
                await self._wait(1, None)
                continue
            wait_s = ready_at - loop.time()
            if wait_s > 0 and len(queue) < self._batch_len_max and not self._closed:
                await self._wait(self._batch_len_max, wait_s)
            batch = self._take()
            yield batch
            ready_at = loop.time() + self._linger_s(len(batch)) if len(batch) > 1 else 0.0

    def _take(self) -> list[T]:
        queue = self._queue
        if len(queue) <= self._batch_len_max:
            batch = list(queue)
            queue.clear()
            return batch
        return [queue.popleft() for _ in range(self._batch_len_max)]

    def _linger_s(self, batch_len: int) -> float:
        # 16 items in a message already cost less each than the message itself; more only delays.
        share = min(1.0, batch_len / 16)
        grown = linger_s_min + share * (self._linger_s_max - linger_s_min)
        return min(self._linger_s_max, grown)

    async def _wait(self, queue_len: int, timeout_s: float | None) -> None:
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiter, self._wake_len = waiter, queue_len
        timer = None if timeout_s is None else loop.call_later(timeout_s, self._wake)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _impatient(self) -> None:
        self._patience = None
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _full(self) -> ResourceExhausted:
        return ResourceExhausted(
            "OUTBOX_FULL",
            f"The peer does not read: {self._queue_len_max} items wait for it.",
            metadata={"queue_len_max": str(self._queue_len_max)},
            retry_after_s=1.0,
        )


def messages(batch: Sequence[T], build: Callable[[Sequence[T]], M]) -> Iterator[M]:
    """Yield the messages that carry a batch: one, or several where payloads make it too large.

    A message above what the transport takes ends the stream, and the same batch would end the next
    one too. A single item always fits: its payload is bounded where it comes in.

    Args:
        batch: what is to be sent, in order.
        build: makes the message of some items, without side effects.
    """
    message = build(batch)
    if len(batch) > 1 and message.ByteSize() > limits.stream_batch_bytes_max:
        middle = len(batch) // 2
        yield from messages(batch[:middle], build)
        yield from messages(batch[middle:], build)
    else:
        yield message
