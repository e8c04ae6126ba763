"""The RPCs of TaskSchedulerService."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from podium.v1 import task_pb2, task_scheduler_pb2, task_scheduler_pb2_grpc
from services.kernel import limits
from services.kernel.auth import Policy, Principal, current_principal
from services.kernel.clock import Clock
from services.kernel.errors import FailedPrecondition, InvalidArgument, PodiumError
from services.kernel.pages import decode_token, encode_token, page_size
from services.kernel.rpc import Context
from services.kernel.rules import Checker
from services.kernel.telemetry import Tracer
from services.task_scheduler.core import catalog
from services.task_scheduler.core.catalog import Filter
from services.task_scheduler.core.control import not_found
from services.task_scheduler.core.states import State
from services.task_scheduler.core.task import Task
from services.task_scheduler.ports import Codec, Desk
from services.task_scheduler.servicer.drafts import OPERATOR, Defaults, Drafter
from services.task_scheduler.servicer.feed import Feed
from services.task_scheduler.servicer.links import Links
from services.task_scheduler.servicer.roots import Roots
from services.task_scheduler.servicer.views import decisions, state_message, task_message
from services.task_scheduler.servicer.watch import (
    Cursors,
    Watches,
    as_frame,
    leave_payloads_out,
)

SERVICE_NAME = "podium.v1.TaskSchedulerService"

POLICY: Policy = {
    f"/{SERVICE_NAME}/{method}": role
    for method, role in {
        "SubmitTasks": "submitter",
        "GetTask": "reader",
        "ListTasks": "reader",
        "CancelTasks": "submitter",
        "RequeueTasks": "operator",
        "ProvideInput": "submitter",
        "WatchTasks": "reader",
        "WatchEvents": "reader",
        "ExplainTask": "reader",
        "GetQueueStats": "reader",
        "OpenDispatch": "service",
    }.items()
}
SERVICE = "service"
WAIT_S_MAX = 60.0
REQUIREMENTS_LEN_MAX = 1_000
REASON_LEN_MAX = 1_024


class TaskScheduler(task_scheduler_pb2_grpc.TaskSchedulerServiceServicer):
    """Messages to the core, and what is durable back."""

    def __init__(
        self,
        desk: Desk,
        codec: Codec,
        feed: Feed,
        links: Links,
        clock: Clock,
        tracer: Tracer,
        defaults: Defaults,
    ) -> None:
        self._desk = desk
        self._feed = feed
        self._links = links
        self._cursors = Cursors()
        self._watches = Watches(desk, feed, self._cursors, clock)
        self._drafter = Drafter(codec, defaults)
        self._roots = Roots(tracer, clock)
        self._key = secrets.token_bytes(32)

    async def SubmitTasks(
        self, request: task_scheduler_pb2.SubmitTasksRequest, context: Context
    ) -> task_scheduler_pb2.SubmitTasksResponse:
        """Take tasks in."""
        desk = self._desk
        desk.check(submitting=True)
        now = desk.now()
        prepared = self._drafter.drafts(
            list(request.tasks), request.submitter_id, current_principal(), now.wall_ms
        )
        book = desk.core.book
        before_seq = book.seq
        try:
            admitted = desk.core.admission.submit(prepared.drafts, now)
        except PodiumError:
            # What it is refused for may itself not be durable yet.
            await desk.settled()
            raise
        desk.wake()
        duplicates = [index for index, one in enumerate(admitted) if one.duplicate]
        for index in duplicates:
            task = book.tasks.get(admitted[index].task_id)
            # Of a task that has left memory the whole log may tell.
            before_seq = min(before_seq, task.created_seq - 1 if task is not None else 0)
        await desk.settled()
        if prepared.roots:
            ids = [admitted[i].task_id for i in prepared.roots if not admitted[i].duplicate]
            self._roots.record([book.tasks[i] for i in ids if i in book.tasks], now)
        return task_scheduler_pb2.SubmitTasksResponse(
            task_ids=[one.task_id for one in admitted],
            cursor=self._cursors.format(max(before_seq, desk.compacted_seq)),
            duplicate_indexes=duplicates,
        )

    async def GetTask(
        self, request: task_scheduler_pb2.GetTaskRequest, context: Context
    ) -> task_scheduler_pb2.GetTaskResponse:
        """Return a task, perhaps when it has ended."""
        self._desk.check()
        checker = Checker()
        checker.duration("wait", request.wait, 0.0, WAIT_S_MAX)
        checker.done()
        task = self._visible(request.task_id)
        wait_s = request.wait.seconds + request.wait.nanos / 1e9
        if wait_s and not task.ended:
            try:
                async with asyncio.timeout(wait_s):
                    await self._feed.ending(task.task_id)
            except TimeoutError:
                pass
        # Read first, then wait: what happens meanwhile is not durable when the wait is over.
        response = task_scheduler_pb2.GetTaskResponse(task=task_message(task, payloads=True))
        await self._desk.settled()
        return response

    async def ListTasks(
        self, request: task_scheduler_pb2.ListTasksRequest, context: Context
    ) -> task_scheduler_pb2.ListTasksResponse:
        """Return a page of tasks."""
        self._desk.check()
        size = page_size(request.page_size)
        arguments = request.filter.SerializeToString(deterministic=True)
        arguments += current_principal().subject.encode()
        before = decode_token(request.page_token, arguments, self._key)
        page = catalog.page(self._desk.core.book, self._filter(request.filter), before, size)
        token = encode_token(page.before, arguments, self._key) if page.before else ""
        response = task_scheduler_pb2.ListTasksResponse(
            tasks=[task_message(task, payloads=False) for task in page.tasks],
            next_page_token=token,
        )
        await self._desk.settled()
        return response

    async def CancelTasks(
        self, request: task_scheduler_pb2.CancelTasksRequest, context: Context
    ) -> task_scheduler_pb2.CancelTasksResponse:
        """Cancel tasks."""
        self._desk.check()
        checker = Checker()
        checker.text("reason", request.reason, REASON_LEN_MAX)
        checker.done()
        tasks = self._chosen(request, _open)
        now = self._desk.now()
        reason = request.reason or "Canceled by request."
        control = self._desk.core.control
        canceled = [task.task_id for task in tasks if control.cancel(task, reason, now)]
        refused = None
        if not canceled and len(request.task_ids) == 1:
            refused = _wrong_state("TASK_ENDED", tasks[0], "has ended")
        self._desk.wake()
        await self._desk.settled()
        if refused is not None:
            raise refused
        return task_scheduler_pb2.CancelTasksResponse(task_ids=canceled)

    async def RequeueTasks(
        self, request: task_scheduler_pb2.RequeueTasksRequest, context: Context
    ) -> task_scheduler_pb2.RequeueTasksResponse:
        """Revive dead letters."""
        self._desk.check(submitting=True)
        payload = None
        if request.HasField("payload"):
            payload = _payload(request.payload)
            if len(request.task_ids) != 1:
                checker = Checker()
                checker.fault("payload", "is allowed with exactly one id")
                checker.done()
        tasks = self._chosen(request, _dead)
        now = self._desk.now()
        control = self._desk.core.control
        requeued = [task.task_id for task in tasks if control.requeue(task, payload, now)]
        refused = None
        if not requeued and len(request.task_ids) == 1:
            refused = _wrong_state("TASK_NOT_DEAD", tasks[0], "is no dead letter")
        self._desk.wake()
        await self._desk.settled()
        if refused is not None:
            raise refused
        return task_scheduler_pb2.RequeueTasksResponse(task_ids=requeued)

    async def ProvideInput(
        self, request: task_scheduler_pb2.ProvideInputRequest, context: Context
    ) -> task_scheduler_pb2.ProvideInputResponse:
        """Answer a task's question."""
        self._desk.check(submitting=True)
        answer = _payload(request.input)
        task = self._visible(request.task_id)
        try:
            self._desk.core.control.answer(task, answer, self._desk.now())
        except PodiumError:
            await self._desk.settled()
            raise
        self._desk.wake()
        await self._desk.settled()
        return task_scheduler_pb2.ProvideInputResponse()

    async def WatchTasks(  # type: ignore[override]  # bytes of the message, see `encoded`
        self, request: task_scheduler_pb2.WatchTasksRequest, context: Context
    ) -> AsyncGenerator[bytes, None]:
        """Follow some tasks."""
        self._desk.check()
        async with aclosing(self._watches.tasks(request, _tenant())) as messages:
            async for message in messages:
                yield message

    async def WatchEvents(  # type: ignore[override]  # bytes of the message, see `encoded`
        self, request: task_scheduler_pb2.WatchEventsRequest, context: Context
    ) -> AsyncGenerator[bytes, None]:
        """Follow the log."""
        self._desk.check()
        async with aclosing(self._watches.events(request, _tenant())) as messages:
            async for message in messages:
                yield message

    async def ExplainTask(
        self, request: task_scheduler_pb2.ExplainTaskRequest, context: Context
    ) -> task_scheduler_pb2.ExplainTaskResponse:
        """Explain a task."""
        self._desk.check()
        task = self._visible(request.task_id)
        last_seq = task.last_seq
        response = task_scheduler_pb2.ExplainTaskResponse(
            task=task_message(task, payloads=False),
            decisions=decisions(task),
            waiting_for=catalog.waiting_for(task),
        )
        await self._desk.settled()
        groups = await self._desk.search(task.task_id.encode(), task.created_seq, last_seq)
        for group in groups:
            for event in task_scheduler_pb2.WatchEventsResponse.FromString(group.frames).events:
                if event.task_id == task.task_id and event.seq <= last_seq:
                    leave_payloads_out(event)
                    response.MergeFromString(b"\x22" + as_frame(event)[1:])
        return response

    async def GetQueueStats(
        self, request: task_scheduler_pb2.GetQueueStatsRequest, context: Context
    ) -> task_scheduler_pb2.GetQueueStatsResponse:
        """Count what waits and runs."""
        desk = self._desk
        desk.check()
        book = desk.core.book
        response = task_scheduler_pb2.GetQueueStatsResponse(
            router_count=desk.core.dispatch.router_count
        )
        for state, count in catalog.counts(book):
            response.states.add(state=state_message(state), count=count)
        for depth in catalog.priorities(book, desk.now().mono_s):
            row = response.priorities.add(priority=depth.priority, count=depth.depth)
            row.oldest_age.FromMilliseconds(round(depth.oldest_age_s * 1000))
        for need in catalog.requirements(book, REQUIREMENTS_LEN_MAX):
            response.requirements.add(
                required_capabilities=need.capabilities,
                count=need.depth,
                schedulable=need.schedulable,
            )
        await desk.settled()
        response.durable_seq = desk.durable_seq
        response.event_count = desk.durable_seq - desk.first_seq
        response.commit_count = desk.commits
        return response

    async def OpenDispatch(  # type: ignore[override]  # bytes of the message, see `encoded`
        self,
        request_iterator: AsyncIterator[task_scheduler_pb2.OpenDispatchRequest],
        context: Context,
    ) -> AsyncGenerator[bytes, None]:
        """Serve a router."""
        self._desk.check()
        async with aclosing(self._links.serve(request_iterator)) as messages:
            async for message in messages:
                yield message

    def _visible(self, task_id: str) -> Task:
        """Return a task that the caller may know of."""
        checker = Checker()
        checker.identifier("task_id", task_id)
        checker.done()
        task = self._desk.core.control.find(task_id)
        tenant = _tenant()
        if tenant is not None and task.tenant != tenant:
            raise not_found(task_id)
        return task

    def _chosen(
        self,
        request: task_scheduler_pb2.CancelTasksRequest | task_scheduler_pb2.RequeueTasksRequest,
        narrow: Callable[[Filter], Filter],
    ) -> list[Task]:
        """Return the tasks that a request names by ids or by a filter."""
        checker = Checker()
        checker.length("task_ids", len(request.task_ids), limits.batch_len_max)
        either = bool(request.task_ids) != request.HasField("filter")
        checker.require("task_ids", either, "or filter must be given, and not both")
        checker.done()
        if request.task_ids:
            return [self._visible(task_id) for task_id in dict.fromkeys(request.task_ids)]
        wanted = narrow(self._filter(request.filter))
        return catalog.matching(self._desk.core.book, wanted, limits.batch_len_max)

    def _filter(self, message: task_pb2.TaskFilter) -> Filter:
        checker = Checker()
        for index, state in enumerate(message.states):
            known = state in task_pb2.Task.State.values() and state != 0
            checker.require(f"filter.states[{index}]", known, "must be a state")
        checker.key("filter.type", message.type, optional=True)
        checker.key("filter.tenant", message.tenant, optional=True)
        checker.labels("filter.labels", message.labels)
        checker.identifier("filter.agent_id", message.agent_id, optional=True)
        checker.text("filter.failure_text", message.failure_text)
        checker.done()
        tenant = _tenant()
        labels = dict(message.labels)

        def also(task: Task) -> bool:
            return (tenant is None or task.tenant == tenant) and _has_labels(task, labels)

        return Filter(
            frozenset(message.states),
            message.type,
            message.tenant,
            message.agent_id,
            message.failure_text,
            also if labels or tenant is not None else None,
        )


def _tenant() -> str | None:
    """Return the only tenant that the caller may see, or None when it may see all."""
    principal: Principal = current_principal()
    if principal.may(OPERATOR) or principal.may(SERVICE):
        return None
    return principal.tenant


def _open(wanted: Filter) -> Filter:
    also = wanted.also
    return wanted._replace(also=lambda task: not task.ended and (also is None or also(task)))


def _dead(wanted: Filter) -> Filter:
    states = wanted.states or {State.FAILED}
    return wanted._replace(states=frozenset(states & {State.FAILED}) or frozenset({-1}))


def _has_labels(task: Task, labels: dict[str, str]) -> bool:
    if not labels:
        return True
    actual = task_pb2.TaskSpec.FromString(task.head).labels
    return all(actual.get(key) == value for key, value in labels.items())


def _payload(message: task_pb2.Payload) -> bytes:
    if len(message.data) > limits.payload_bytes_max:
        raise InvalidArgument(
            "PAYLOAD_TOO_LARGE",
            f"The payload has {len(message.data)} bytes, at most {limits.payload_bytes_max} "
            "are taken: store it elsewhere and pass a reference.",
            metadata={"payload_bytes_max": str(limits.payload_bytes_max)},
        )
    checker = Checker()
    checker.text("content_type", message.content_type, limits.name_len_max)
    checker.done()
    return message.SerializeToString()


def _wrong_state(reason: str, task: Task, what: str) -> FailedPrecondition:
    return FailedPrecondition(
        reason,
        f"Task {task.task_id} {what}: it is {task.state.name}.",
        metadata={"task_id": task.task_id, "state": task.state.name},
    )
