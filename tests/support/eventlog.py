"""A scheduler that has an event log and nothing else, served on a free port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio

from podium.v1.event_pb2 import Event
from podium.v1.task_scheduler_pb2 import (
    ExplainTaskRequest,
    ExplainTaskResponse,
    WatchEventsRequest,
    WatchEventsResponse,
)
from podium.v1.task_scheduler_pb2_grpc import (
    TaskSchedulerServiceServicer,
    add_TaskSchedulerServiceServicer_to_server,
)
from services.kernel.errors import InvalidArgument, NotFound, OutOfRange, Unavailable
from services.kernel.rpc import Guard

BEGIN_MS = 1_700_000_000_000 - 1_700_000_000_000 % 300_000


def event(
    kind: str, task_id: str = "t-1", *, at_s: float = 0.0, task_type: str = "words", **fields: Any
) -> Event:
    """Returns an event of the type `kind`, `at_s` seconds after the beginning of a window."""
    made = Event(type=f"TYPE_{kind}", task_id=task_id, task_type=task_type, **fields)
    made.event_time.FromMilliseconds(BEGIN_MS + round(at_s * 1_000))
    return made


def completed(agent_id: str, *, run_s: float = 1.0, total_s: float = 2.0, **fields: Any) -> Event:
    """Returns the event of a task that an agent has completed."""
    made = event("COMPLETED", agent_id=agent_id, **fields)
    made.completed.run_duration.FromNanoseconds(round(run_s * 1e9))
    made.completed.total_duration.FromNanoseconds(round(total_s * 1e9))
    return made


def attempt_failed(agent_id: str, *, agent_fault: bool = True, **fields: Any) -> Event:
    """Returns the event of an attempt that an agent has failed."""
    made = event("ATTEMPT_FAILED", agent_id=agent_id, **fields)
    made.failed.agent_fault = agent_fault
    return made


class LogServicer(TaskSchedulerServiceServicer):
    """Streams its events to whoever watches; a cursor is the number of events before it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.first = 0
        """Events before it are compacted."""
        self.watches: list[str] = []
        """The cursors that watchers came with."""
        self.broken = False
        self.down = False
        """Whether it answers no questions."""
        self._grown = asyncio.Event()

    def append(self, *events: Event) -> None:
        """Adds events, numbered."""
        for new in events:
            new.seq = len(self.events) + 1
            self.events.append(new)
        self.wake()

    def wake(self) -> None:
        """Lets watchers look again."""
        self._grown.set()
        self._grown = asyncio.Event()

    def break_off(self) -> None:
        """Ends every watch."""
        self.broken = True
        self.wake()

    async def WatchEvents(
        self, request: WatchEventsRequest, context: Any
    ) -> AsyncIterator[WatchEventsResponse]:
        self.watches.append(request.cursor)
        self.broken = False
        position = int(request.cursor or self.first)
        if position > len(self.events):
            raise InvalidArgument("CURSOR_INVALID", "The cursor is not of this log.")
        if position < self.first:
            raise OutOfRange("CURSOR_COMPACTED", "The cursor lies before what is kept.")
        while True:
            news = self.events[position : position + 100]
            position += len(news)
            yield WatchEventsResponse(
                events=[each for each in news if each.type in request.types],
                cursor=str(position),
                caught_up=position == len(self.events),
            )
            if position == len(self.events):
                await self._grown.wait()
            if self.broken:
                return

    async def ExplainTask(self, request: ExplainTaskRequest, context: Any) -> ExplainTaskResponse:
        if self.down:
            raise Unavailable("DRAINING", "The scheduler is stopping.", retry_after_s=0.5)
        of_task = [each for each in self.events if each.task_id == request.task_id]
        if not of_task:
            raise NotFound("TASK_NOT_FOUND", "The task is not known.")
        return ExplainTaskResponse(events=of_task)


@asynccontextmanager
async def served_log() -> AsyncIterator[tuple[LogServicer, str]]:
    """Serves a log; yields it and its address."""
    servicer = LogServicer()
    server = grpc.aio.server(interceptors=[Guard()])
    add_TaskSchedulerServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield servicer, f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
