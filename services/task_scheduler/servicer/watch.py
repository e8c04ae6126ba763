"""WatchTasks and WatchEvents: the log from a cursor, each event once and in order, as bytes.

Events are sent as they were stored; nothing is parsed unless it is read back from the journal
through a filter.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import NamedTuple

from podium.v1 import event_pb2, task_scheduler_pb2
from services.kernel.clock import Clock
from services.kernel.errors import InvalidArgument, OutOfRange, ResourceExhausted, Unavailable
from services.kernel.rules import Checker
from services.task_scheduler.core.states import Kind
from services.task_scheduler.core.task import Task
from services.task_scheduler.ports import Desk, Group
from services.task_scheduler.servicer.feed import Chunk, Feed, Subject, Subscription
from services.task_scheduler.servicer.places import Places

MESSAGE_BYTES_MAX = 1 << 20
"""Events of one message: far below the transport's limit, with room for one large event more."""
READ_BYTES_MAX = 1 << 20
PROGRESS_S = 1.0
"""How often a filtered watch that sees nothing is told where it stands."""
LINGER_S = 0.005
LEAN_LINGER_S = 0.05
"""Pause of a follower after a full batch, so that the next one is worth a message."""
LINGER_LEN_MIN = 16
TASK_IDS_LEN_MAX = 1_000

_CURSOR = re.compile(r"([0-9a-f]{2})-([0-9]{1,18})").fullmatch


class Facts(NamedTuple):
    """What a watch may ask about an event."""

    kind: int
    task_id: str
    tenant: str
    submitter_id: str


Wanted = Callable[[Facts], bool]
Frame = tuple[int, bytes]
"""An event's number and its bytes as field 1 of a message."""


class Found(NamedTuple):
    """Events that a watch wants, and how far the log has been looked at."""

    frames: list[Frame]
    last_seq: int


class Cursors:
    """Positions in the log of one partition, as text."""

    def __init__(self, partition: int = 0) -> None:
        self._prefix = f"{partition:02x}"

    def format(self, seq: int) -> str:
        """Return the cursor behind event `seq`."""
        return f"{self._prefix}-{seq}"

    def parse(self, cursor: str, durable_seq: int, compacted_seq: int = 0) -> int:
        """Return the last event before a cursor.

        Raises:
            InvalidArgument: CURSOR_INVALID.
            OutOfRange: CURSOR_COMPACTED.
        """
        if not cursor:
            return compacted_seq
        if cursor == "now":
            return durable_seq
        found = _CURSOR(cursor)
        if found is None or found[1] != self._prefix or int(found[2]) > durable_seq:
            raise InvalidArgument(
                "CURSOR_INVALID",
                "The cursor is not from this log: begin without one, or with one you were given.",
                metadata={"cursor": cursor[:64]},
            )
        self.check(int(found[2]), compacted_seq)
        return int(found[2])

    def check(self, seq: int, compacted_seq: int) -> None:
        """Refuse a position from which not every event is kept.

        Raises:
            OutOfRange: CURSOR_COMPACTED.
        """
        if seq < compacted_seq:
            oldest = self.format(compacted_seq)
            raise OutOfRange(
                "CURSOR_COMPACTED",
                f"Events up to {compacted_seq} are no longer kept: begin at {oldest}, and read the "
                "tasks themselves for what was before.",
                metadata={"oldest_cursor": oldest},
            )


class Watches:
    """Serves both watches."""

    def __init__(self, desk: Desk, feed: Feed, cursors: Cursors, clock: Clock) -> None:
        self._desk = desk
        self._feed = feed
        self._cursors = cursors
        self._clock = clock
        limits = desk.core.book.limits
        self._followers = Places("the whole log", limits.log_watches_max)
        self._watchers = Places("some tasks", limits.task_watches_max)

    async def events(
        self, request: task_scheduler_pb2.WatchEventsRequest, tenant: str | None
    ) -> AsyncGenerator[bytes, None]:
        """Follow the whole log, or what one tenant may see of it.

        Raises:
            ResourceExhausted: TOO_MANY_WATCHES.
        """
        kinds = _kinds(request.types)
        self._accept()
        seq = self._begin(request.cursor)
        wanted: Wanted | None = None if kinds is None else _Kinds(kinds)
        if tenant is not None:
            wanted = _passing(kinds, tenant)
        following = self._followed(seq, wanted, lean=request.omit_payloads)
        with self._followers.place():
            async with aclosing(following) as messages:
                async for message in messages:
                    yield message

    async def _followed(
        self, seq: int, wanted: Wanted | None, *, lean: bool
    ) -> AsyncGenerator[bytes, None]:
        told_s = float("-inf")
        while True:
            found = await self._next(seq, wanted, lean=lean)
            caught_up = found.last_seq >= self._feed.last_seq
            seq = found.last_seq
            now_s = self._clock.now().mono_s
            # An empty batch tells where the log stands: at first, and then now and again.
            if found.frames or now_s - told_s >= PROGRESS_S:
                told_s = now_s
                for message in self._messages(found, caught_up=caught_up):
                    yield message
            if caught_up:
                await self._feed.news(seq)
                if self._feed.closed and seq >= self._feed.last_seq:
                    raise draining()
            if lean and found.frames and caught_up:
                # Whoever leaves payloads out counts or learns, and need not hear of each commit:
                # at 300 tasks a second one message a commit cost more than the tasks themselves.
                await self._clock.sleep(LEAN_LINGER_S)
            elif len(found.frames) >= LINGER_LEN_MIN:
                await self._clock.sleep(LINGER_S)

    async def tasks(
        self, request: task_scheduler_pb2.WatchTasksRequest, tenant: str | None
    ) -> AsyncGenerator[bytes, None]:
        """Follow some tasks.

        Raises:
            ResourceExhausted: TOO_MANY_WATCHES or WATCHER_TOO_SLOW.
        """
        _check_watch(request)
        kinds = _kinds(request.types)
        self._accept()
        subscription = Subscription(request.submitter_id, request.task_ids, kinds, tenant)
        seq = self._begin(request.cursor)
        wanted = _Chosen(subscription, _passing(kinds, tenant))
        with self._watchers.place():
            async with aclosing(self._watched(seq, wanted, subscription)) as messages:
                async for message in messages:
                    yield message

    async def _watched(
        self, seq: int, wanted: _Chosen, subscription: Subscription
    ) -> AsyncGenerator[bytes, None]:
        # What has passed already is looked for in the log; from its end on, events are pushed.
        first = True
        while seq < self._feed.last_seq or first:
            first = False
            found = await self._next(seq, wanted, lean=False)
            seq = found.last_seq
            for message in self._messages(found):
                yield message
            if seq >= self._feed.last_seq:
                self._feed.subscribe(subscription)
                break
        try:
            async for message in self._pushed(subscription):
                yield message
        finally:
            self._feed.unsubscribe(subscription)

    def _accept(self) -> None:
        """Refuse a watch that would end at once: what it sent would pass for a watch that works.

        Raises:
            Unavailable: DRAINING.
        """
        if self._feed.closed:
            raise draining()

    def _begin(self, cursor: str) -> int:
        return self._cursors.parse(cursor, self._desk.durable_seq, self._desk.compacted_seq)

    async def _pushed(self, subscription: Subscription) -> AsyncGenerator[bytes, None]:
        async for batch in subscription.outbox.batches():
            subscription.size_bytes -= sum(len(frame) for _, frame in batch)
            # A watcher that has read everything has seen all of the log that concerns it.
            behind = subscription.outbox or subscription.lost_seq
            last_seq = batch[-1][0] if behind else self._feed.last_seq
            for message in self._messages(Found(batch, last_seq)):
                yield message
        if not subscription.lost_seq:
            raise draining()
        raise ResourceExhausted(
            "WATCHER_TOO_SLOW",
            "Events came faster than they were read: resume from the cursor.",
            metadata={"cursor": self._cursors.format(max(0, subscription.lost_seq - 1))},
            retry_after_s=0.1,
        )

    async def _next(self, seq: int, wanted: Wanted | None, *, lean: bool) -> Found:
        """Return what is wanted of the next events behind `seq`."""
        recent = self._feed.after(seq)
        if recent is not None:
            frames: list[Frame] = []
            for chunk in recent:
                frames += _chosen(chunk, wanted, lean=lean)
            return Found(frames, recent[-1].last_seq if recent else seq)
        groups = await self._desk.read(seq, READ_BYTES_MAX)
        # Asked behind the read: what is dropped meanwhile is a gap, not an end.
        self._cursors.check(seq, self._desk.compacted_seq)
        # What is stored but not yet published has not been told to anybody.
        groups = [group for group in groups if group.last_seq <= self._feed.last_seq]
        if not groups:
            return Found([], seq)
        return Found(self._stored(groups, seq, wanted, lean=lean), groups[-1].last_seq)

    def _stored(
        self, groups: Sequence[Group], seq: int, wanted: Wanted | None, *, lean: bool
    ) -> list[Frame]:
        frames = []
        tasks = self._desk.core.book.tasks
        for group in groups:
            for message in task_scheduler_pb2.WatchEventsResponse.FromString(group.frames).events:
                if message.seq <= seq:
                    continue
                submitter_id = message.submitter_id or message.created.submitter_id
                if not submitter_id and (task := tasks.get(message.task_id)) is not None:
                    # An older version wrote the event, without the submitter.
                    submitter_id = task.submitter_id
                facts = Facts(message.type, message.task_id, message.tenant, submitter_id)
                if wanted is None or wanted(facts):
                    if lean:
                        leave_payloads_out(message)
                    frames.append((message.seq, as_frame(message)))
        return frames

    def _messages(self, found: Found, *, caught_up: bool | None = None) -> Iterable[bytes]:
        """Join frames to messages that are not too large, each with its cursor."""
        part: list[bytes] = []
        size_bytes = last_seq = 0
        for seq, frame in found.frames:
            if part and size_bytes + len(frame) > MESSAGE_BYTES_MAX:
                yield b"".join((*part, self._cursor_field(last_seq)))
                part, size_bytes = [], 0
            part.append(frame)
            size_bytes += len(frame)
            last_seq = seq
        if part or caught_up is not None:
            end = b"\x18\x01" if caught_up else b""
            yield b"".join((*part, self._cursor_field(found.last_seq), end))

    def _cursor_field(self, seq: int) -> bytes:
        cursor = self._cursors.format(seq).encode()
        return b"\x12" + bytes((len(cursor),)) + cursor


class _Kinds:
    """Tells whether an event is of some kinds, which is all that a service asks for."""

    def __init__(self, kinds: frozenset[Kind]) -> None:
        self.kinds = kinds

    def __call__(self, facts: Facts) -> bool:
        return facts.kind in self.kinds


class _Chosen:
    """Tells whether an event is of the tasks that were asked for."""

    def __init__(self, subscription: Subscription, passes: Wanted) -> None:
        self._subscription = subscription
        self._passes = passes
        self._met: set[str] = set()

    def __call__(self, facts: Facts) -> bool:
        chosen = self._subscription
        if facts.task_id in chosen.task_ids or facts.task_id in self._met:
            return self._passes(facts)
        if not chosen.submitter_id or facts.submitter_id != chosen.submitter_id:
            return False
        if facts.kind == Kind.CREATED:
            self._met.add(facts.task_id)
        return self._passes(facts)


def draining() -> Unavailable:
    """Return the error that ends a stream when the process stops."""
    return Unavailable(
        "DRAINING", "The scheduler is stopping: resume from the cursor.", retry_after_s=0.5
    )


def as_frame(message: event_pb2.Event) -> bytes:
    """Return an event as field 1 of a message."""
    return task_scheduler_pb2.WatchEventsResponse(events=[message]).SerializeToString()


def leave_payloads_out(message: event_pb2.Event) -> None:
    """Take payloads, results, partial output and checkpoints out of an event."""
    if message.HasField("created"):
        message.created.spec.ClearField("payload")
    elif message.HasField("completed"):
        message.completed.ClearField("result")
    elif message.HasField("progress"):
        message.progress.ClearField("partial")
        message.progress.ClearField("checkpoint")
    elif message.HasField("input"):
        message.input.ClearField("payload")
    elif message.schedule.HasField("schedule"):
        message.schedule.schedule.spec.ClearField("payload")


def _chosen(chunk: Chunk, wanted: Wanted | None, *, lean: bool) -> list[Frame]:
    """Return what is wanted of a commit."""
    frames = enumerate(chunk.lean if lean else chunk.frames, chunk.first_seq)
    if wanted is None:
        return list(frames)
    if isinstance(wanted, _Kinds):
        kinds = wanted.kinds
        return [one for kind, one in zip(chunk.kinds, frames, strict=True) if kind in kinds]
    told = zip(chunk.kinds, chunk.about, frames, strict=True)
    return [one for kind, about, one in told if wanted(_facts(kind, about))]


def _facts(kind: Kind, about: Subject) -> Facts:
    if isinstance(about, Task):
        return Facts(kind, about.task_id, about.tenant, about.submitter_id)
    return Facts(kind, "", about.tenant if about is not None else "", "")


def _passing(kinds: frozenset[Kind] | None, tenant: str | None) -> Wanted:
    def passes(facts: Facts) -> bool:
        return (kinds is None or facts.kind in kinds) and tenant in (None, facts.tenant)

    return passes


def _kinds(types: Sequence[int]) -> frozenset[Kind] | None:
    if not types:
        return None
    known = {int(kind) for kind in Kind}
    checker = Checker()
    for index, number in enumerate(types):
        checker.require(f"types[{index}]", number in known, "must be a type of event")
    checker.done()
    return frozenset(Kind(number) for number in types)


def _check_watch(request: task_scheduler_pb2.WatchTasksRequest) -> None:
    checker = Checker()
    checker.length("task_ids", len(request.task_ids), TASK_IDS_LEN_MAX)
    checker.key("submitter_id", request.submitter_id, optional=True)
    checker.require(
        "task_ids",
        bool(request.task_ids or request.submitter_id),
        "or submitter_id must be given",
    )
    for index, task_id in enumerate(request.task_ids[:TASK_IDS_LEN_MAX]):
        checker.identifier(f"task_ids[{index}]", task_id)
    checker.done()
