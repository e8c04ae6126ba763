"""The client: submits tasks, follows them, and asks about them.

::

    async with Client() as podium:
        task = await podium.submit("text.summarize", "a long text")
        print(await task.result())
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Unpack

from podium.sdk import payloads, questions, specs, wire
from podium.sdk.batches import batches, relocate
from podium.sdk.bulk import Canceled, Progress, Requeued, canceled_in, requeued_in, to_the_end
from podium.sdk.calls import Calls, Stubs
from podium.sdk.errors import PodiumError
from podium.sdk.fleet import Fleet
from podium.sdk.handle import TaskHandle
from podium.sdk.holds import Holds
from podium.sdk.log import Log
from podium.sdk.results import ENDS, Outcome, Results, get, poll
from podium.sdk.schedules import Schedules
from podium.sdk.settings import Settings
from podium.sdk.specs import SubmitOptions
from podium.sdk.submitter import Pending, Submitter
from podium.sdk.tracing import Tracer
from podium.sdk.watch import Stream, Watch
from podium.v1 import (
    agent_pb2,
    agent_registry_pb2,
    analytics_pb2,
    event_pb2,
    task_pb2,
    task_scheduler_pb2,
)
from podium.v1.task_scheduler_pb2 import ExplainTaskResponse

PATIENCE_S = 20.0
PAGE_SIZE = 500


class Client:
    """A connection to the suite; use it as an async context manager.

    Args:
        settings: where the suite is. Default: the environment.
        patience_s: how long calls are tried again while nobody answers.
        inline: let the caller's loop do gRPC, which is faster but only for programs that run no
            `AgentHost` beside it and never block their loop.

    Each method that asks a service raises Unavailable when nobody answers for `patience_s`, and
    Unauthenticated or PermissionDenied when the token does not allow it; this is not said again.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        patience_s: float = PATIENCE_S,
        inline: bool = False,
    ) -> None:
        self._settings = settings or Settings.from_environment()
        self._patience_s = patience_s
        self._inline = inline
        self._tracer = Tracer("client", self._settings)

    async def __aenter__(self) -> Client:
        """Starts; connects when it is first used."""
        self._tracer.start()
        self._wire = wire.acquire(inline=self._inline)
        self._calls = Calls(self._wire, self._settings, self._patience_s)
        self.holds = Holds(self._calls)
        """Pauses tasks, types and tenants."""
        self.fleet = Fleet(self._calls)
        """Drains, quarantines and releases agents."""
        self.schedules = Schedules(self._calls)
        """Makes tasks that come again and again."""
        self.log = Log(self._calls)
        """Reads the event log as it is kept, and checks it."""
        submitter_id = uuid.uuid4().hex
        self._results = Results(self._calls, submitter_id)
        self._submitter = Submitter(self._calls, self._tracer, submitter_id, self._on_accepted)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes; tasks go on without it."""
        await self._submitter.close()
        await self._results.close()
        await self._calls.close()
        await wire.release(self._wire)
        await asyncio.get_running_loop().run_in_executor(None, self._tracer.stop)

    # --- Submitting ------------------------------------------------------------------------

    async def submit(
        self, task_type: str, payload: Any = None, **options: Unpack[SubmitOptions]
    ) -> TaskHandle:
        """Submits a task and returns when it is durable.

        Concurrent submits travel together. A submit that is repeated after a lost connection makes
        no second task.

        Args:
            task_type: the kind of work, for example "text.summarize".
            payload: bytes, str, or anything that JSON can hold; at most 256 KiB.
            **options: see `SubmitOptions`.

        Raises:
            InvalidArgument: something about it is not valid; `violations` say what.
            AlreadyExists: its request_id belongs to a different task.
            ResourceExhausted: the backlog is full; try again after `retry_after_s`.
            Unavailable: the scheduler does not answer.
        """
        return await self.submit_soon(specs.build(task_type, payload, options))

    def submit_soon(self, spec: task_pb2.TaskSpec) -> asyncio.Future[TaskHandle]:
        """Queues a task built by `specs.build`; the future is done when it is durable.

        The cheapest way for programs that submit thousands a second.
        """
        return self._submitter.add(spec)

    async def submit_many(self, tasks: Iterable[task_pb2.TaskSpec]) -> list[TaskHandle]:
        """Submits tasks built by `specs.build`, in order, and returns when all are durable.

        Up to 1,000 tasks and 2 MiB of payloads are one batch: all of them are accepted, or none
        is. More are sent as several such batches, one after the other, and the first that is
        refused is the last that is sent: the batches before it are accepted and stay so. Tasks of
        several tenants may not share a batch where schedulers share a database.

        Raises:
            PodiumError: as `submit`. `metadata["index"]`, where one task is at fault, is its place
                in `tasks`, and `metadata["submitted_count"]` how many before it were accepted.
        """
        handles: list[TaskHandle] = []
        for batch in batches(tasks):
            try:
                handles += await self._submitter.whole(batch)
            except PodiumError as error:
                relocate(error, len(handles))
                raise
        return handles

    def _on_accepted(self, pending: Pending[TaskHandle], task_id: str, cursor: str) -> TaskHandle:
        ended = None
        # A key chosen by the caller may name another client's task, whose end goes elsewhere.
        if not (pending.own_key and pending.duplicate):
            ended = self._results.expect(task_id, cursor)
        return TaskHandle(
            self, task_id, ended=ended, cursor=cursor, traceparent=pending.spec.traceparent
        )

    def handle(self, task_id: str) -> TaskHandle:
        """Returns the handle of a task that is known by its id."""
        return TaskHandle(self, task_id)

    async def _poll(self, task_id: str) -> Outcome:
        return await poll(self._calls, task_id)

    # --- Tasks -----------------------------------------------------------------------------

    async def get(self, task_id: str) -> task_pb2.Task:
        """Returns a task as it stands.

        Raises:
            NotFound: there is no such task, or it ended too long ago.
        """
        return await get(self._calls, task_id)

    async def list(
        self, filter: task_pb2.TaskFilter | None = None, *, limit: int | None = None
    ) -> AsyncIterator[task_pb2.Task]:
        """Yields tasks, newest first, without payloads and results.

        Args:
            filter: which; all parts must match.
            limit: how many at most.
        """
        request = task_scheduler_pb2.ListTasksRequest(
            filter=filter, page_size=min(PAGE_SIZE, limit or PAGE_SIZE)
        )
        left = limit
        while True:
            page = await self._calls.unary(
                "task_scheduler", lambda stubs: stubs.scheduler.ListTasks, request
            )
            for task in page.tasks[:left]:
                yield task
            if left is not None:
                left -= len(page.tasks)
            if not page.next_page_token or (left is not None and left <= 0):
                return
            request.page_token = page.next_page_token

    async def cancel(
        self,
        task_ids: Sequence[str] = (),
        *,
        filter: task_pb2.TaskFilter | None = None,
        reason: str = "",
        keep_children: bool = False,
        on_progress: Progress | None = None,
    ) -> Canceled:
        """Cancels tasks by id or by filter, and returns those that are canceled now.

        Args:
            task_ids: which.
            filter: or all that match and have not ended.
            reason: why, for people.
            keep_children: leave the open tasks that descend from them alone.
            on_progress: is told how many are canceled so far, of those that a filter means.

        Raises:
            NotFound: there is no such task.
            FailedPrecondition: TASK_ENDED, when only one was named and nothing was canceled.
        """
        request = task_scheduler_pb2.CancelTasksRequest(
            task_ids=task_ids, filter=filter, reason=reason, keep_children=keep_children
        )
        answers = await to_the_end(
            self._calls, lambda stubs: stubs.scheduler.CancelTasks, request, on_progress
        )
        return canceled_in(answers)

    async def requeue(
        self,
        task_ids: Sequence[str] = (),
        *,
        filter: task_pb2.TaskFilter | None = None,
        payload: Any = None,
        deadline: datetime | timedelta | None = None,
        ignore_dependencies: bool = False,
        on_progress: Progress | None = None,
    ) -> Requeued:
        """Revives dead letters by id or by filter, and returns those that are open again.

        Those that could not be revived are told by `refusals` of what it returns.

        Args:
            task_ids: which.
            filter: or all that match, the first to be submitted first.
            payload: replaces the payload of the one named.
            deadline: replaces the deadline of each: a time, or a span from now. Without it, one
                that has passed is dropped.
            ignore_dependencies: let them wait for none of the tasks that they depend on.
            on_progress: is told how many are requeued so far, of those that a filter means.

        Raises:
            NotFound: there is no such task.
            FailedPrecondition: TASK_NOT_DEAD or DEPENDENCY_FAILED, when only one was named.
            ResourceExhausted: BACKLOG_FULL or TENANT_BACKLOG_FULL, when only one was named.
        """
        request = task_scheduler_pb2.RequeueTasksRequest(
            task_ids=task_ids, filter=filter, ignore_dependencies=ignore_dependencies
        )
        if deadline is not None:
            request.deadline.CopyFrom(specs.timestamp(deadline))
        if payload is not None:
            request.payload.CopyFrom(payloads.encode(payload))
        answers = await to_the_end(
            self._calls, lambda stubs: stubs.scheduler.RequeueTasks, request, on_progress
        )
        return requeued_in(answers)

    async def provide_input(self, task_id: str, value: Any, *, question: int = 0) -> None:
        """Answers a task that waits for input.

        Args:
            task_id: the task.
            value: the answer.
            question: `question_epoch` of the task when it asked. Default: what it asks now.

        Raises:
            FailedPrecondition: INPUT_NOT_REQUIRED.
            AlreadyExists: QUESTION_ANSWERED, by another answer.
        """
        await questions.answer(self._calls, task_id, payloads.encode(value), question)

    async def explain(self, task_id: str, *, events: bool = True) -> ExplainTaskResponse:
        """Returns who was considered for a task, why its agents were chosen, and its events."""
        request = task_scheduler_pb2.ExplainTaskRequest(task_id=task_id, omit_events=not events)
        return await self._calls.unary(
            "task_scheduler", lambda stubs: stubs.scheduler.ExplainTask, request
        )

    async def watch(
        self,
        *,
        task_ids: Sequence[str] = (),
        types: Sequence[event_pb2.Event.Type] = (),
        cursor: str = "now",
        until_ended: bool = False,
    ) -> AsyncGenerator[event_pb2.Event, None]:
        """Yields events in order, each once, also over lost connections.

        Args:
            task_ids: of these tasks; empty = of all, without payloads.
            types: only these; empty = all.
            cursor: after this point; "" = from the start of the log, "now" = new ones only.
            until_ended: stop when each of `task_ids` has ended.
        """

        def open_stream(stubs: Stubs, at: str) -> Stream:
            scheduler, metadata = stubs.scheduler, self._calls.metadata
            if task_ids:
                tasks = task_scheduler_pb2.WatchTasksRequest(
                    task_ids=task_ids, types=types, cursor=at
                )
                return scheduler.WatchTasks(tasks, metadata=metadata)
            events = task_scheduler_pb2.WatchEventsRequest(
                types=types, cursor=at, omit_payloads=True
            )
            return scheduler.WatchEvents(events, metadata=metadata)

        watch = Watch(self._calls, open_stream, cursor)
        left = set(task_ids)
        try:
            while not until_ended or left:
                for event in await watch.next():
                    yield event
                    if event.type in ENDS:
                        left.discard(event.task_id)
        finally:
            with contextlib.suppress(RuntimeError):  # the loop itself is closing
                await watch.close()

    # --- The rest of the suite -------------------------------------------------------------

    async def queue_stats(self) -> task_scheduler_pb2.GetQueueStatsResponse:
        """Returns how much waits and runs."""
        request = task_scheduler_pb2.GetQueueStatsRequest()
        return await self._calls.unary(
            "task_scheduler", lambda stubs: stubs.scheduler.GetQueueStats, request
        )

    async def agents(
        self, filter: agent_registry_pb2.AgentFilter | None = None
    ) -> Sequence[agent_pb2.Agent]:
        """Returns the agents that the registry knows, by id."""
        request = agent_registry_pb2.ListAgentsRequest(filter=filter, page_size=PAGE_SIZE)
        agents: list[agent_pb2.Agent] = []
        while True:
            page = await self._calls.unary(
                "agent_registry", lambda stubs: stubs.registry.ListAgents, request
            )
            agents += page.agents
            if not page.next_page_token:
                return agents
            request.page_token = page.next_page_token

    async def find_agents(
        self, *capabilities: str, task_type: str = "", ahead_count: int = 0
    ) -> agent_registry_pb2.FindAgentsResponse:
        """Returns who can do something now, and how long a task would wait for the others.

        Args:
            capabilities: What an agent must be able to do; at least one. "name@2.1" asks for at
                least that version.
            task_type: Type of the task, for times and success; default: the first capability.
            ahead_count: Tasks that wait already and come first; see `queue_stats`.

        Raises:
            InvalidRequest: a name breaks the rules, or there is none.
        """
        request = agent_registry_pb2.FindAgentsRequest(
            capabilities=capabilities, task_type=task_type, ahead_count=ahead_count
        )
        return await self._calls.unary(
            "agent_registry", lambda stubs: stubs.registry.FindAgents, request
        )

    async def trace(self, task_id: str) -> analytics_pb2.GetTraceResponse:
        """Returns the spans of a task.

        Raises:
            NotFound: none has arrived yet, or they are no longer kept.
        """
        request = analytics_pb2.GetTraceRequest(task_id=task_id)
        return await self._calls.unary("analytics", lambda stubs: stubs.analytics.GetTrace, request)

    async def windows(self, window_s: float, count: int = 1) -> Sequence[analytics_pb2.Window]:
        """Returns the last windows of a length, 10 or 300 seconds, oldest first."""
        request = analytics_pb2.QueryWindowsRequest(window=specs.duration(window_s), count=count)
        response = await self._calls.unary(
            "analytics", lambda stubs: stubs.analytics.QueryWindows, request
        )
        return response.windows
