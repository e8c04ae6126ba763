"""Coalesces concurrent submits into batches: a message costs what several tasks in it do."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from podium.sdk import outbox
from podium.sdk.batches import BATCH_BYTES_MAX
from podium.sdk.calls import Calls
from podium.sdk.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PodiumError,
    ResourceExhausted,
)
from podium.sdk.gate import URGENT_PRIORITY, Gate, priority_of, still_taken
from podium.sdk.keys import own_key
from podium.sdk.spans import format_traceparent
from podium.sdk.submissions import Submissions
from podium.sdk.tracing import Ids, Tracer, below_current
from podium.v1 import task_pb2
from podium.v1.task_scheduler_pb2 import SubmitTasksRequest as Request
from podium.v1.task_scheduler_pb2 import SubmitTasksResponse as Response

T = TypeVar("T")

# On their way at a time. More would only make the batches smaller: the scheduler commits them one
# after another.
BATCHES_MAX = 4
# For urgent tasks, beside those of the others: none waits for the commit of one before it.
URGENT_BATCHES_MAX = 16
# A scheduler takes 1,000 at once, and does nothing else for the 20 ms that it takes them in.
BATCH_LEN_MAX = 256
# A message costs the scheduler an eighth of a millisecond, a task in it a fifth of that.
WORTH_LEN = 1.5

# Between two calls while the backlog is full, of urgent tasks half of it: what is taken waits for
# far longer, and a message costs the scheduler turns of its loop, which are long then.
FULL_STEP_S = 0.02

# What one task of a batch can be refused for while the others are good.
_ITS_OWN_FAULT = (InvalidArgument, AlreadyExists, NotFound, FailedPrecondition)


@dataclass(slots=True)
class Pending(Generic[T]):
    """A task on its way to the scheduler; the future is done when it is durable."""

    spec: task_pb2.TaskSpec
    future: asyncio.Future[T]
    # Whether the caller chose the request_id, so that the task may be another client's.
    own_key: bool
    ids: Ids
    parent_id: int
    start_ns: int
    duplicate: bool = False


Ask = Callable[[Request], Coroutine[Any, Any, Response]]
"""Submits a batch of tasks that have request ids."""
Accepted = Callable[[Pending[T], str, str], T]
"""Makes of an accepted task, its id and the cursor before it what its future becomes."""


class _Lane(Generic[T]):
    """Tasks that go to the scheduler in the order in which they came.

    Args:
        send: sends a batch.
        batches_max: batches on their way at a time.
        gate: tells whether the backlog is full.
        full_step_s: time between two batches while it is.
    """

    def __init__(
        self,
        send: Callable[[list[Pending[T]]], Coroutine[Any, Any, None]],
        batches_max: int,
        gate: Gate,
        full_step_s: float,
    ) -> None:
        self._send = send
        self._batches_max = batches_max
        self._gate = gate
        self._full_step_s = full_step_s
        self._sent_s = float("-inf")
        self._loop = asyncio.get_running_loop()
        self._rhythm = outbox.Rhythm(WORTH_LEN)
        self._scheduled = False
        self._queue: deque[Pending[T]] = deque()
        self._sending: set[asyncio.Task[None]] = set()

    def add(self, pending: Pending[T]) -> None:
        self._queue.append(pending)
        if not self._scheduled:
            self._schedule()

    async def close(self) -> None:
        for task in self._sending:
            task.cancel()
        if self._sending:
            await asyncio.wait(self._sending)
        for pending in self._queue:
            pending.future.cancel()

    def _schedule(self) -> None:
        """Sends at the loop's next turn, or later when a batch has just left."""
        if not self._queue or len(self._sending) >= self._batches_max:
            return
        self._scheduled = True
        now_s = time.monotonic()
        wait_s = self._rhythm.wait_s(now_s)
        if self._gate.shut:
            wait_s = max(wait_s, self._sent_s + self._full_step_s - now_s)
        if wait_s > 0 and len(self._queue) < BATCH_LEN_MAX:
            self._loop.call_later(wait_s, self._flush)
        else:
            # All submits of this turn of the loop come along.
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        batch: list[Pending[T]] = []
        size = 0
        while self._queue and len(batch) < BATCH_LEN_MAX and size < BATCH_BYTES_MAX:
            pending = self._queue.popleft()
            size += len(pending.spec.payload.data)
            batch.append(pending)
        if not batch:
            return
        self._sent_s = time.monotonic()
        self._rhythm.sent(self._sent_s, len(batch))
        task = self._loop.create_task(self._send(batch))
        self._sending.add(task)
        task.add_done_callback(self._sent)
        self._schedule()

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if not self._scheduled:
            self._schedule()
        if not task.cancelled() and (error := task.exception()):
            raise error


class Submitter(Generic[T]):
    """Sends tasks, each kind in the order in which it came: urgent ones, and all others.

    Urgent ones have a stream of their own, since a batch is as late as the last of those before it.
    """

    def __init__(
        self, calls: Calls, tracer: Tracer, submitter_id: str, accepted: Accepted[T]
    ) -> None:
        self.submitter_id = submitter_id
        self._calls = calls
        self._tracer = tracer
        self._accepted = accepted
        self._loop = asyncio.get_running_loop()
        self._gate = Gate()
        # A stream each: on one, what is urgent would come behind what it overtakes.
        self._streams = [Submissions(calls), Submissions(calls)]
        common, urgent = (partial(self._send_apart, one.submit) for one in self._streams)
        self._lane = _Lane(common, BATCHES_MAX, self._gate, FULL_STEP_S)
        self._urgent = _Lane(urgent, URGENT_BATCHES_MAX, self._gate, FULL_STEP_S / 2)
        self._key = own_key(calls.patience_s)
        self._key_count = 0
        # Learned from the first refusal: tasks of several tenants then go tenant by tenant.
        self._apart = False
        # Tasks that are queued or on their way.
        self._unanswered = 0

    def add(self, spec: task_pb2.TaskSpec) -> asyncio.Future[T]:
        """Queues a task, which from here on has a trace and an idempotency key.

        Returns:
            what is done when the task is durable.
        """
        if refusal := self._held_back(spec):
            future: asyncio.Future[T] = self._loop.create_future()
            future.set_exception(refusal)
            return future
        pending = self._pending(spec)
        self._unanswered += 1
        urgent = priority_of(spec) >= URGENT_PRIORITY
        (self._urgent if urgent else self._lane).add(pending)
        return pending.future

    async def whole(self, specs: Iterable[task_pb2.TaskSpec]) -> list[T]:
        """Sends tasks as one batch, of which all are accepted or none.

        Raises:
            PodiumError: none is; `metadata["index"]` tells the one at fault when it is one's fault.
        """
        specs = list(specs)
        for spec in specs:
            if refusal := self._held_back(spec):
                raise refusal
        batch = [self._pending(spec) for spec in specs]
        self._unanswered += len(batch)
        try:
            await self._submit(self._call, batch)
        except PodiumError as error:
            if isinstance(error, ResourceExhausted):
                self._gate.refused(error, self._unanswered)
            for pending in batch:
                self._record_refusal(pending, error)
            raise
        finally:
            self._unanswered -= len(batch)
        return [pending.future.result() for pending in batch]

    def _held_back(self, spec: task_pb2.TaskSpec) -> ResourceExhausted | None:
        """Returns why a task need not be sent now."""
        # A task with the caller's key may be there already, and then has its answer.
        if self._gate.shut and not spec.request_id:
            return self._gate.refusal(spec, self._unanswered)
        return None

    def _pending(self, spec: task_pb2.TaskSpec) -> Pending[T]:
        own_key = bool(spec.request_id)
        if not own_key:
            self._key_count += 1
            spec.request_id = f"{self._key}-{self._key_count:x}"
        ids, parent_id = below_current()
        spec.traceparent = format_traceparent(*ids)
        future: asyncio.Future[T] = self._loop.create_future()
        return Pending(spec, future, own_key, ids, parent_id, time.time_ns())

    async def close(self) -> None:
        """Gives up what has not been answered."""
        await self._urgent.close()
        await self._lane.close()
        for stream in self._streams:
            await stream.close()

    async def _call(self, request: Request) -> Response:
        return await self._calls.unary(
            "task_scheduler", lambda stubs: stubs.scheduler.SubmitTasks, request
        )

    async def _send_apart(self, ask: Ask, batch: list[Pending[T]]) -> None:
        parts = _by_tenant(batch) if self._apart else [batch]
        if len(parts) == 1:
            await self._send(ask, batch)
        else:
            await asyncio.gather(*(self._send(ask, part) for part in parts))

    async def _send(self, ask: Ask, batch: list[Pending[T]]) -> None:
        try:
            await self._submit(ask, batch)
            self._unanswered -= len(batch)
        except PodiumError as error:
            await self._refused(ask, batch, error)
        except asyncio.CancelledError:
            for pending in batch:
                pending.future.cancel()
            raise

    async def _submit(self, ask: Ask, batch: list[Pending[T]]) -> None:
        specs = [pending.spec for pending in batch]
        response = await ask(Request(tasks=specs, submitter_id=self.submitter_id))
        self._gate.taken(len(batch))
        for index in response.duplicate_indexes:
            batch[index].duplicate = True
        for pending, task_id in zip(batch, response.task_ids, strict=True):
            self._settle(pending, task_id, response.cursor)

    async def _refused(self, ask: Ask, batch: list[Pending[T]], error: PodiumError) -> None:
        if error.reason == "BATCH_SPANS_PARTITIONS":
            self._apart = True
            for part in _by_tenant(batch):
                await self._send(ask, part)
            return
        # A batch is accepted as a whole, but these tasks have nothing to do with each other: halves
        # find the one at fault, and keys make it safe to send the others again.
        if len(batch) > 1 and isinstance(error, _ITS_OWN_FAULT):
            middle = len(batch) // 2
            await self._send(ask, batch[:middle])
            await self._send(ask, batch[middle:])
            return
        if isinstance(error, ResourceExhausted):
            self._gate.refused(error, self._unanswered)
            least = still_taken(error)
            urgent = [pending for pending in batch if priority_of(pending.spec) >= least]
            if urgent:
                # They were refused only because of those they travelled with.
                batch = [pending for pending in batch if priority_of(pending.spec) < least]
                self._reject(batch, error)
                await self._send(ask, urgent)
                return
        self._reject(batch, error)

    def _reject(self, batch: list[Pending[T]], error: PodiumError) -> None:
        self._unanswered -= len(batch)
        for pending in batch:
            self._record_refusal(pending, error)
            if not pending.future.done():
                pending.future.set_exception(error)

    def _settle(self, pending: Pending[T], task_id: str, cursor: str) -> None:
        attributes = (("task.id", task_id), ("task.type", pending.spec.type))
        self._record(pending, attributes, "")
        result = self._accepted(pending, task_id, cursor)
        if not pending.future.done():
            pending.future.set_result(result)

    def _record_refusal(self, pending: Pending[T], error: PodiumError) -> None:
        attributes = (("task.type", pending.spec.type),)
        self._record(pending, attributes, f"{error.reason}: {error.message}")

    def _record(
        self, pending: Pending[T], attributes: tuple[tuple[str, str], ...], error: str
    ) -> None:
        self._tracer.record(
            pending.ids, pending.parent_id, "submit", pending.start_ns, attributes, error
        )


def _by_tenant(batch: list[Pending[T]]) -> list[list[Pending[T]]]:
    tenants: dict[str, list[Pending[T]]] = {}
    for pending in batch:
        tenants.setdefault(pending.spec.tenant, []).append(pending)
    return list(tenants.values())
