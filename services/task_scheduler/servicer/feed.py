"""Who hears of which events: the newest ones in memory, and subscriptions by submitter and task.

A follower of the whole log pulls and is never in anybody's way. A watcher of some tasks is pushed
to, since looking for its few events in all of them would cost every watcher the whole load; its
queue is bounded.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from services.kernel.coalesce import Outbox
from services.task_scheduler.core.event import Event, ScheduleChange
from services.task_scheduler.core.states import TERMINAL_KINDS, Kind
from services.task_scheduler.core.task import Task
from services.task_scheduler.ports import Commit

QUEUE_LEN_MAX = 65_536
QUEUE_BYTES_MAX = 16 << 20
BATCH_LEN_MAX = 1_024
GATHER_LEN_MAX = 2_048

Subject = Task | ScheduleChange | None
"""What an event is about: a task, a schedule, or neither."""


class Chunk(NamedTuple):
    """The events of one commit, as columns: a record each would be most of what is kept."""

    first_seq: int
    kinds: Sequence[Kind]
    about: Sequence[Subject]
    frames: Sequence[bytes]
    lean: Sequence[bytes]
    """Without payloads, results and partial output; often the same objects."""

    @property
    def last_seq(self) -> int:
        """The last of them."""
        return self.first_seq + len(self.kinds) - 1

    def behind(self, seq: int) -> Chunk:
        """Return those behind an event."""
        past = seq + 1 - self.first_seq
        if past <= 0:
            return self
        kinds, about = self.kinds[past:], self.about[past:]
        return Chunk(seq + 1, kinds, about, self.frames[past:], self.lean[past:])


class Subscription:
    """One watcher of some tasks."""

    __slots__ = ("kinds", "lost_seq", "outbox", "size_bytes", "submitter_id", "task_ids", "tenant")

    def __init__(
        self,
        submitter_id: str,
        task_ids: Iterable[str],
        kinds: frozenset[Kind] | None,
        tenant: str | None,
    ) -> None:
        self.submitter_id = submitter_id
        self.task_ids = frozenset(task_ids)
        self.kinds = kinds
        self.tenant = tenant
        """The only tenant it may see; None = all."""
        # Events come commit by commit: under load these have gathered already.
        self.outbox: Outbox[tuple[int, bytes]] = Outbox(
            queue_len_max=QUEUE_LEN_MAX, batch_len_max=BATCH_LEN_MAX, linger_s=0.0
        )
        self.size_bytes = 0
        self.lost_seq = 0
        """The first event it was too slow for; 0 = none."""

    def offer(self, event: Event, frame: bytes, tenant: str) -> None:
        """Queue an event that is wanted, or mark where the watcher fell behind."""
        if self.kinds is not None and event.kind not in self.kinds:
            return
        if self.lost_seq or (self.tenant is not None and tenant != self.tenant):
            return
        seq = event.seq
        self.size_bytes += len(frame)
        if self.size_bytes > QUEUE_BYTES_MAX or not self.outbox.offer((seq, frame)):
            self.lost_seq = seq
            self.outbox.close()


class Feed:
    """Takes commits and tells those who wait for them."""

    def __init__(self, tail_bytes_max: int) -> None:
        self.last_seq = 0
        self.closed = False
        self._subscriptions: set[Subscription] = set()
        self._followed = dict.fromkeys(Kind, 0)
        """How many subscriptions want each kind of event."""
        self._tail: deque[Chunk] = deque()
        self._tail_bytes = 0
        self._tail_bytes_max = tail_bytes_max
        self._by_submitter: dict[str, list[Subscription]] = {}
        self._by_task: dict[str, list[Subscription]] = {}
        self._endings: dict[str, list[asyncio.Future[None]]] = {}
        self._news: list[asyncio.Future[None]] = []

    def begin(self, durable_seq: int) -> None:
        """Say what the log held when this process took it over."""
        self.last_seq = max(self.last_seq, durable_seq)

    def close(self) -> None:
        """End all watches: the process stops."""
        self.closed = True
        for subscription in self._subscriptions:
            subscription.outbox.close()
        self._wake(self._news)
        for waiters in self._endings.values():
            self._wake(waiters)

    def publish(self, commit: Commit) -> None:
        """Take in a commit."""
        events, frames = commit.events, commit.frames
        if not events:
            return
        kinds = [event.kind for event, _, _ in events]
        about = [task or _schedule(event) for event, task, _ in events]
        self._tail.append(Chunk(events[0][0].seq, kinds, about, frames, commit.lean))
        self._tail_bytes += sum(map(len, frames))
        while self._tail_bytes > self._tail_bytes_max and len(self._tail) > 1:
            self._tail_bytes -= sum(map(len, self._tail.popleft().frames))
        self.last_seq = events[-1][0].seq
        followed, endings = self._followed, self._endings
        for kind, recorded, frame in zip(kinds, events, frames, strict=True):
            if followed[kind] or (endings and kind in TERMINAL_KINDS):
                self._tell(recorded[0], recorded[1], frame)
        self._wake(self._news)
        self._news = []

    def after(self, seq: int) -> list[Chunk] | None:
        """Return the next events behind `seq`; None when memory does not go back so far.

        Whole commits, as many as make `GATHER_LEN_MAX` events. Empty when there are none yet.
        """
        if seq >= self.last_seq:
            return []
        if not self._tail or self._tail[0].first_seq > seq + 1:
            return None
        chunks = []
        for chunk in reversed(self._tail):
            if chunk.last_seq <= seq:
                break
            chunks.append(chunk)
        found = [chunks.pop().behind(seq)]
        count = len(found[0].kinds)
        while chunks and count < GATHER_LEN_MAX:
            found.append(chunks.pop())
            count += len(found[-1].kinds)
        return found

    async def news(self, seq: int) -> None:
        """Return when there are events behind `seq`, or never will be."""
        if seq < self.last_seq or self.closed:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._news.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter in self._news:
                # A log that stands still must not gather those who have gone.
                self._news.remove(waiter)
            raise

    def subscribe(self, subscription: Subscription) -> None:
        """Push the events of some tasks from here on."""
        self._subscriptions.add(subscription)
        for kind in subscription.kinds or Kind:
            self._followed[kind] += 1
        if self.closed:
            subscription.outbox.close()
        for index, key in _keys(self._by_submitter, self._by_task, subscription):
            index.setdefault(key, []).append(subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Push no more; a subscription that never began is no fault."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
            for kind in subscription.kinds or Kind:
                self._followed[kind] -= 1
        for index, key in _keys(self._by_submitter, self._by_task, subscription):
            listed = index.get(key, [])
            if subscription in listed:
                listed.remove(subscription)
            if not listed:
                index.pop(key, None)

    async def ending(self, task_id: str) -> None:
        """Return when the task has ended and that is durable, or when this process stops."""
        waiter = asyncio.get_running_loop().create_future()
        waiters = self._endings.setdefault(task_id, [])
        waiters.append(waiter)
        try:
            await waiter
        finally:
            waiters.remove(waiter)
            if not waiters and self._endings.get(task_id) is waiters:
                del self._endings[task_id]

    def _tell(self, event: Event, task: Task | None, frame: bytes) -> None:
        if task is None:
            return
        for subscription in self._by_submitter.get(task.submitter_id, ()):
            subscription.offer(event, frame, task.tenant)
        if self._by_task:
            for subscription in self._by_task.get(task.task_id, ()):
                # One that follows the submitter too has it already.
                if subscription.submitter_id and subscription.submitter_id == task.submitter_id:
                    continue
                subscription.offer(event, frame, task.tenant)
        if event.kind in TERMINAL_KINDS and self._endings:
            self._wake(self._endings.get(task.task_id, ()))

    @staticmethod
    def _wake(waiters: Iterable[asyncio.Future[None]]) -> None:
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


def _schedule(event: Event) -> ScheduleChange | None:
    detail = event.detail
    return detail if isinstance(detail, ScheduleChange) else None


def _keys(
    by_submitter: dict[str, list[Subscription]],
    by_task: dict[str, list[Subscription]],
    subscription: Subscription,
) -> list[tuple[dict[str, list[Subscription]], str]]:
    keys = [(by_task, task_id) for task_id in subscription.task_ids]
    if subscription.submitter_id:
        keys.append((by_submitter, subscription.submitter_id))
    return keys
