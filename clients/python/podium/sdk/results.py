"""Results of all tasks of a client, over one stream."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, NamedTuple

from podium.sdk import payloads, schema
from podium.sdk.calls import Calls, Stubs
from podium.sdk.errors import (
    OutOfRange,
    PodiumError,
    ResultMisfit,
    TaskCanceled,
    TaskExpired,
    TaskFailed,
    TaskRejected,
    Violation,
)
from podium.sdk.watch import Stream, Watch
from podium.v1 import event_pb2, task_pb2, task_scheduler_pb2

log = logging.getLogger("podium.sdk.client")

Event = event_pb2.Event
Task = task_pb2.Task

_STATES: dict[int, Task.State] = {
    Event.TYPE_COMPLETED: Task.STATE_COMPLETED,
    Event.TYPE_FAILED: Task.STATE_FAILED,
    Event.TYPE_CANCELED: Task.STATE_CANCELED,
    Event.TYPE_EXPIRED: Task.STATE_EXPIRED,
    Event.TYPE_REJECTED: Task.STATE_REJECTED,
}
ENDS = frozenset(_STATES)
"""Event types after which nothing more happens, unless a dead letter is requeued."""
TERMINAL_TYPES = tuple(event_pb2.Event.Type.Name(number) for number in _STATES)
TERMINAL_STATES = frozenset(_STATES.values())

_ERRORS: dict[int, type[TaskFailed]] = {
    Task.STATE_FAILED: TaskFailed,
    Task.STATE_CANCELED: TaskCanceled,
    Task.STATE_EXPIRED: TaskExpired,
    Task.STATE_REJECTED: TaskRejected,
}
POLL_S = 20.0
# Above what can be on its way at once; the oldest belong to submits that were given up.
EARLY_LEN_MAX = 10_000


class Outcome(NamedTuple):
    """How a task ended."""

    task_id: str
    state: Task.State
    result: task_pb2.Payload
    failure: task_pb2.Failure

    def payload(self) -> task_pb2.Payload:
        """Returns the result.

        Raises:
            TaskFailed: it ended without one.
        """
        if self.state == Task.STATE_COMPLETED:
            return self.result
        kind = _ERRORS.get(self.state, TaskFailed)
        reason = self.failure.reason or Task.State.Name(self.state).removeprefix("STATE_")
        raise kind(self.task_id, reason, self.failure.message)


def value_of(task_id: str, result: task_pb2.Payload, into: Any = None) -> Any:
    """Returns a task's result as a value.

    Args:
        task_id: whose it is.
        result: the payload.
        into: its type, as `payloads.reader` takes it; None = as its media type says.

    Raises:
        ResultMisfit: it is not of this type.
    """
    if into is None:
        return payloads.decode(result)
    try:
        return payloads.reader(into)(result)
    except schema.Misfit as misfit:
        violations = [Violation(path or "result", why) for path, why in misfit.faults]
        raise ResultMisfit(task_id, violations) from None


def outcome_of_event(event: Event) -> Outcome:
    """Returns the outcome that a terminal event tells."""
    return Outcome(event.task_id, _STATES[event.type], event.completed.result, event.failed.failure)


def outcome_of_task(task: Task) -> Outcome | None:
    """Returns the outcome of a task; None while it has not ended."""
    if task.state not in TERMINAL_STATES:
        return None
    return Outcome(task.task_id, task.state, task.result, task.failure)


class Results:
    """Follows the ends of one submitter's tasks. Used on the client's loop."""

    def __init__(self, calls: Calls, submitter_id: str) -> None:
        self._calls = calls
        self._submitter_id = submitter_id
        self._waiting: dict[str, asyncio.Future[Outcome]] = {}
        # A task may end before the answer to its submit is here.
        self._early: dict[str, Outcome] = {}
        # By partition: the cursor of a task leads to the events of its own alone.
        self._following: dict[str, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def expect(self, task_id: str, cursor: str) -> asyncio.Future[Outcome]:
        """Returns the future of a task that this client has just submitted."""
        partition = cursor.partition("-")[0]
        if partition not in self._following:
            # The first task's cursor: everything about this client's tasks lies after it.
            self._following[partition] = asyncio.create_task(self._follow(cursor, partition))
        future = self._waiting.get(task_id)
        if future is None:
            future = asyncio.get_running_loop().create_future()
            early = self._early.pop(task_id, None)
            if early is None:
                self._waiting[task_id] = future
            else:
                future.set_result(early)
        return future

    async def close(self) -> None:
        """Ends the stream; who still waits is told so by cancellation."""
        if self._following:
            for following in self._following.values():
                following.cancel()
            await asyncio.wait(self._following.values())
        for future in self._waiting.values():
            future.cancel()

    async def _follow(self, cursor: str, partition: str) -> None:
        watch = Watch(self._calls, self._open, cursor, patience_s=float("inf"))
        try:
            while True:
                try:
                    events = await watch.next()
                except OutOfRange:
                    # What lay between is gone from the log; the tasks themselves tell.
                    watch.cursor = "now"
                    await self._ask_all(partition)
                    continue
                except PodiumError as error:
                    log.error("results can no longer be followed: %s", error)
                    await self._ask_all(partition)
                    return
                for event in events:
                    if event.type in _STATES:
                        self._ended(outcome_of_event(event))
        finally:
            await watch.close()

    def _open(self, stubs: Stubs, cursor: str) -> Stream:
        request = task_scheduler_pb2.WatchTasksRequest(
            submitter_id=self._submitter_id, types=TERMINAL_TYPES, cursor=cursor
        )
        return stubs.scheduler.WatchTasks(request, metadata=self._calls.metadata)

    def _ended(self, outcome: Outcome) -> None:
        future = self._waiting.pop(outcome.task_id, None)
        if future is not None:
            if not future.done():
                future.set_result(outcome)
            return
        self._early[outcome.task_id] = outcome
        if len(self._early) > EARLY_LEN_MAX:
            del self._early[next(iter(self._early))]

    async def _ask_all(self, partition: str) -> None:
        for task_id in [one for one in self._waiting if one.startswith(partition)]:
            outcome = await ask(self._calls, task_id, wait_s=0.0)
            if outcome is not None:
                self._ended(outcome)


async def get(calls: Calls, task_id: str) -> Task:
    """Returns a task as it stands.

    Raises:
        PodiumError: as GetTask.
    """
    request = task_scheduler_pb2.GetTaskRequest(task_id=task_id)
    return (
        await calls.unary("task_scheduler", lambda stubs: stubs.scheduler.GetTask, request)
    ).task


async def ask(calls: Calls, task_id: str, *, wait_s: float) -> Outcome | None:
    """Asks the scheduler for a task's outcome, letting it wait so long for the end.

    Raises:
        PodiumError: as GetTask.
    """
    request = task_scheduler_pb2.GetTaskRequest(task_id=task_id)
    request.wait.FromNanoseconds(round(wait_s * 1e9))
    response = await calls.unary(
        "task_scheduler", lambda stubs: stubs.scheduler.GetTask, request, timeout_s=wait_s + 10.0
    )
    return outcome_of_task(response.task)


async def poll(calls: Calls, task_id: str) -> Outcome:
    """Waits for the end of a task that another client submitted.

    Raises:
        PodiumError: as GetTask.
    """
    while True:
        outcome = await ask(calls, task_id, wait_s=POLL_S)
        if outcome is not None:
            return outcome
