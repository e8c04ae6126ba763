"""The outbound queue of a stream: at once when quiet, coalesced under load.

A message costs the transport about 150 us a side whatever it holds and an item 2 us, so under load
many items share one message; a quiet stream waits for nothing. Load is a rate, not a backlog: tasks
that come evenly, a millisecond apart, never queue and would each pay for messages of their own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from services.kernel import limits
from services.kernel.errors import ResourceExhausted

T = TypeVar("T")


class Sized(Protocol):
    """A message that knows how long it is on the wire."""

    def ByteSize(self) -> int:
        """Return its length in bytes."""


M = TypeVar("M", bound=Sized)

linger_s_min = 0.003
linger_s_max = 0.005
patience_s_default = 0.02
worth_len = 3.0
"""Items that must be expected within `linger_s_min` for waiting to be worth it."""
full_len = 8.0
"""Items expected in that time from which it is worth `linger_s_max`."""
memory_s = 0.02
"""Time over which the rate is averaged."""


class Rhythm:
    """When the next message may leave: at once where little comes, in steps of 3 to 5 ms else."""

    __slots__ = ("_last_s", "_linger_s_max", "_rate", "_ready_s", "_worth_len")

    def __init__(self, *, linger_s: float = linger_s_max, expected_len: float = worth_len) -> None:
        """Begin quiet.

        Args:
            linger_s: The longest step, in seconds.
            expected_len: Items within `linger_s_min` from which there are steps at all.
        """
        self._linger_s_max = linger_s
        self._worth_len = expected_len
        self._rate = 0.0
        self._last_s = float("-inf")
        self._ready_s = float("-inf")

    def wait_s(self, now_s: float) -> float:
        """Return how long the next message should gather; not above 0 = it may leave."""
        return self._ready_s - now_s

    def sent(self, now_s: float, batch_len: int) -> None:
        """Note a message with so many items."""
        gap_s = max(now_s - self._last_s, 1e-4)
        self._last_s = now_s
        # The mean rate with a memory of `memory_s`, whatever the gaps are.
        weight = 1.0 if gap_s > 1.0 else gap_s / (gap_s + memory_s)
        self._rate += weight * (batch_len / gap_s - self._rate)
        expected_len = self._rate * linger_s_min
        if expected_len < self._worth_len:
            self._ready_s = now_s
            return
        share = min(1.0, expected_len / full_len)
        grown_s = linger_s_min + share * (self._linger_s_max - linger_s_min)
        self._ready_s = now_s + min(self._linger_s_max, grown_s)


class Outbox(Generic[T]):
    """An ordered, bounded queue with one reader, who takes batches.

    Urgent items leave before all others and keep their order among themselves; who marks an item so
    knows that it may overtake what is queued.
    """

    def __init__(
        self,
        *,
        queue_len_max: int = 16_384,
        batch_len_max: int = limits.stream_batch_len_max,
        linger_s: float = linger_s_max,
        patience_s: float = patience_s_default,
    ) -> None:
        """Begin empty.

        Args:
            queue_len_max: Items that may wait.
            batch_len_max: Items of a batch.
            linger_s: How long a batch may gather under load, in seconds.
            patience_s: How long a patient item may wait for another, in seconds.
        """
        self._patience_s = patience_s
        self._queue: deque[T] = deque()
        self._urgent: deque[T] = deque()
        self._queue_len_max = queue_len_max
        self._batch_len_max = batch_len_max
        self._rhythm = Rhythm(linger_s=linger_s)
        self._due = False
        """Whether anything is queued that is not patient, or is so no longer."""
        self._prompt = False
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._wake_len = 1
        self._patience: asyncio.TimerHandle | None = None
        self._patient_until_s = 0.0

    def __len__(self) -> int:
        return len(self._queue) + len(self._urgent)

    @property
    def in_order(self) -> Collection[T]:
        """What is queued and not urgent."""
        return self._queue

    @property
    def closed(self) -> bool:
        """True once `close` was called: nothing is accepted any more."""
        return self._closed

    def offer(
        self, item: T, *, patient: bool = False, urgent: bool = False, prompt: bool = False
    ) -> bool:
        """Queue `item`; return False, and drop it, when the queue is full or closed.

        A patient item leaves with the next one that is not, in order, and after `patience_s` at
        the latest: nobody waits for it, and a message of its own costs 150 us a side. A prompt one
        leaves at once, and takes along whatever gathers before it.
        """
        queue = self._queue
        if self._closed or len(queue) + len(self._urgent) >= self._queue_len_max:
            return False
        if urgent:
            self._urgent.append(item)
            self._wake()
            return True
        queue.append(item)
        if patient and not self._due:
            self._wait_patiently()
            return True
        self._due = True
        if prompt:
            self._prompt = True
        if prompt or len(queue) >= self._wake_len:
            self._wake()
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
        if len(self) + len(added) > self._queue_len_max:
            raise self._full()
        queue.extend(added)
        self._due = True
        if len(queue) >= self._wake_len:
            self._wake()

    def close(self) -> None:
        """Accept nothing more; the reader gets what is queued and then the end."""
        self._closed = True
        self._wake()

    async def batches(self) -> AsyncIterator[list[T]]:
        """Yield what is queued, in order, until the queue is closed and empty; see `take`."""
        while batch := await self.take():
            yield batch

    async def take(self) -> list[T]:
        """Return the next batch, in order; an empty one when the queue is closed and empty.

        A batch leaves at once unless so much comes that it is worth to gather for a moment since
        the one before it, or until it is full; see `Rhythm`.
        """
        # To ask for the running one is a system call in Python 3.11.
        loop = self._loop = self._loop or asyncio.get_running_loop()
        queue, rhythm = self._queue, self._rhythm
        while not (self._due or self._urgent or self._closed):
            await self._wait(loop, 1, None)
        wait_s = rhythm.wait_s(loop.time())
        hurries = self._urgent or self._prompt
        gathers = wait_s > 0 and len(queue) < self._batch_len_max and not hurries
        if gathers and not self._closed:
            await self._wait(loop, self._batch_len_max, wait_s)
        batch = self._take()
        rhythm.sent(loop.time(), len(batch))
        return batch

    def _take(self) -> list[T]:
        self._due = self._prompt = False
        queue, urgent = self._queue, self._urgent
        if len(queue) <= self._batch_len_max and not urgent:
            batch = list(queue)
            queue.clear()
            return batch
        batch = []
        for lane in (urgent, queue):
            room_len = self._batch_len_max - len(batch)
            batch += [lane.popleft() for _ in range(min(room_len, len(lane)))]
        self._due = bool(queue)
        return batch

    async def _wait(
        self, loop: asyncio.AbstractEventLoop, queue_len: int, timeout_s: float | None
    ) -> None:
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiter, self._wake_len = waiter, queue_len
        timer = None if timeout_s is None else loop.call_later(timeout_s, self._wake)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _wait_patiently(self) -> None:
        """Let what is queued leave in a while, whatever comes."""
        loop = self._loop or asyncio.get_running_loop()
        if len(self._queue) == 1:
            self._patient_until_s = loop.time() + self._patience_s
        # One timer for all that are queued while it runs: most leave long before, with others.
        if self._patience is None:
            self._patience = loop.call_at(self._patient_until_s, self._look_again)

    def _look_again(self) -> None:
        self._patience = None
        if self._due or not self._queue:
            return
        loop = self._loop or asyncio.get_running_loop()
        if loop.time() < self._patient_until_s:
            self._patience = loop.call_at(self._patient_until_s, self._look_again)
            return
        self._due = True
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
