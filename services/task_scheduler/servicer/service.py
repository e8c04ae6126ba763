"""The RPCs of TaskSchedulerService."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from podium.v1 import task_scheduler_pb2
from services.kernel.auth import Policy, current_principal
from services.kernel.clock import Clock
from services.kernel.errors import PodiumError, ResourceExhausted
from services.kernel.pages import decode_token, encode_token, page_size
from services.kernel.rpc import Context
from services.kernel.rules import Checker
from services.kernel.telemetry import Tracer
from services.task_scheduler.core import catalog
from services.task_scheduler.core.limits import URGENT_PRIORITY
from services.task_scheduler.core.task import Task
from services.task_scheduler.ports import Codec, Desk
from services.task_scheduler.servicer.choice import (
    Choice,
    list_arguments,
    only_tenant,
    open_ones,
)
from services.task_scheduler.servicer.drafts import Defaults, Drafter
from services.task_scheduler.servicer.feed import Feed
from services.task_scheduler.servicer.history import Histories
from services.task_scheduler.servicer.holds import REASON_LEN_MAX, Holding, wrong_state
from services.task_scheduler.servicer.links import Links
from services.task_scheduler.servicer.plans import Cron, Planner
from services.task_scheduler.servicer.requeue import Requeueing, payload_bytes
from services.task_scheduler.servicer.roots import Roots
from services.task_scheduler.servicer.schedules import Scheduling
from services.task_scheduler.servicer.stats import queue_stats
from services.task_scheduler.servicer.submissions import Submissions
from services.task_scheduler.servicer.views import decisions, task_message
from services.task_scheduler.servicer.watch import (
    Cursors,
    Watches,
)

SERVICE_NAME = "podium.v1.TaskSchedulerService"

POLICY: Policy = {
    f"/{SERVICE_NAME}/{method}": role
    for method, role in {
        "SubmitTasks": "submitter",
        "OpenSubmission": "submitter",
        "GetTask": "reader",
        "ListTasks": "reader",
        "CancelTasks": "submitter",
        "RequeueTasks": "operator",
        "ProvideInput": "submitter",
        "WatchTasks": "reader",
        "WatchEvents": "reader",
        "ExplainTask": "reader",
        "VerifyLog": "operator",
        "GetQueueStats": "reader",
        "ListPartitions": "reader",
        "OpenDispatch": "service",
        "PauseTasks": "submitter",
        "ResumeTasks": "submitter",
        "PauseQueue": "operator",
        "ResumeQueue": "operator",
        "CreateSchedule": "submitter",
        "GetSchedule": "reader",
        "ListSchedules": "reader",
        "UpdateSchedule": "submitter",
        "TriggerSchedule": "submitter",
        "DeleteSchedule": "submitter",
        "PauseSchedule": "submitter",
        "ResumeSchedule": "submitter",
    }.items()
}
WAIT_S_MAX = 60.0
PARTS_MAX = 8
"""Parts of all tasks that are looked through for one page."""


class TaskScheduler(Holding, Requeueing, Scheduling):
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
        cron: Cron,
        *,
        partition: int = 0,
        page_key: bytes = b"",
    ) -> None:
        self._partition = partition
        self._desk = desk
        self._codec = codec
        self._feed = feed
        self._links = links
        self._cursors = Cursors(partition)
        self._watches = Watches(desk, feed, self._cursors, clock)
        self._drafter = Drafter(codec, defaults)
        self._planner = Planner(self._drafter, cron)
        self._roots = Roots(tracer, clock)
        self._key = page_key or secrets.token_bytes(32)
        self._choice = Choice(desk, self._key)
        self._histories = Histories(desk)
        self.submissions = Submissions(self.SubmitTasks)

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
        except ResourceExhausted:
            # A limit tells of no event; and who is refused under load shall know at once.
            raise
        except PodiumError:
            # What it is refused for may itself not be durable yet.
            await desk.settled()
            raise
        desk.wake(sum([d.created.terms.priority >= URGENT_PRIORITY for d in prepared.drafts]))
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

    async def OpenSubmission(
        self,
        request_iterator: AsyncIterator[task_scheduler_pb2.OpenSubmissionRequest],
        context: Context,
    ) -> AsyncGenerator[task_scheduler_pb2.OpenSubmissionResponse, None]:
        """Take tasks in, submission by submission."""
        async with aclosing(self.submissions.serve(request_iterator, context)) as answers:
            async for answer in answers:
                yield answer

    async def GetTask(
        self, request: task_scheduler_pb2.GetTaskRequest, context: Context
    ) -> task_scheduler_pb2.GetTaskResponse:
        """Return a task, perhaps when it has ended."""
        self._desk.check()
        checker = Checker()
        checker.duration("wait", request.wait, 0.0, WAIT_S_MAX)
        checker.done()
        task = self._choice.visible(request.task_id)
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
        arguments = list_arguments(request.filter)
        before = decode_token(request.page_token, arguments, self._key)
        wanted = self._choice.filter(request.filter)
        for _ in range(PARTS_MAX):
            page = catalog.page(self._desk.core.book, wanted, before, size)
            before = page.before
            if page.tasks or not before:
                break
            # A match is rare: others get their turn while it is looked for.
            await asyncio.sleep(0)
            self._desk.check()
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
        desk, control = self._desk, self._desk.core.control
        reason = request.reason or "Canceled by request."
        descendants = 0

        def cancel(task: Task) -> bool:
            nonlocal descendants
            canceled = control.cancel(task, reason, desk.now())
            if not request.keep_children:
                descendants += control.cancel_descendants(task, desk.now())
            return canceled

        done = await self._choice.each(request, request.HasField("filter"), open_ones, cancel)
        refused = None
        if not (done.task_ids or descendants) and len(request.task_ids) == 1:
            refused = wrong_state("TASK_ENDED", done.named[0], "has ended")
        await self._durable(refused)
        return task_scheduler_pb2.CancelTasksResponse(
            task_ids=done.task_ids,
            descendant_count=descendants,
            next_page_token=done.next_page_token,
        )

    async def ProvideInput(
        self, request: task_scheduler_pb2.ProvideInputRequest, context: Context
    ) -> task_scheduler_pb2.ProvideInputResponse:
        """Answer a task's question."""
        self._desk.check(submitting=True)
        answer = payload_bytes(request.input)
        checker = Checker()
        checker.require("question_epoch", request.question_epoch >= 0, "must not be negative")
        checker.done()
        task = self._choice.visible(request.task_id)
        try:
            self._desk.core.control.answer(
                task, answer, self._desk.now(), epoch=request.question_epoch
            )
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
        async with aclosing(self._watches.tasks(request, only_tenant())) as messages:
            async for message in messages:
                yield message

    async def WatchEvents(  # type: ignore[override]  # bytes of the message, see `encoded`
        self, request: task_scheduler_pb2.WatchEventsRequest, context: Context
    ) -> AsyncGenerator[bytes, None]:
        """Follow the log."""
        self._desk.check()
        async with aclosing(self._watches.events(request, only_tenant())) as messages:
            async for message in messages:
                yield message

    async def ExplainTask(
        self, request: task_scheduler_pb2.ExplainTaskRequest, context: Context
    ) -> task_scheduler_pb2.ExplainTaskResponse:
        """Explain a task."""
        self._desk.check()
        task = self._choice.visible(request.task_id)
        last_seq = task.last_seq
        response = task_scheduler_pb2.ExplainTaskResponse(
            task=task_message(task, payloads=False),
            decisions=decisions(task),
            waiting_for=catalog.waiting_for(self._desk.core.book, task),
        )
        await self._desk.settled()
        if not request.omit_events:
            history = await self._histories.of(task.task_id, task.created_seq, last_seq)
            # As field 4 of the response instead of field 1.
            response.MergeFromString(b"".join(b"\x22" + one[1:] for one in history.frames()))
            response.left_out_count = history.left_out
        return response

    async def GetQueueStats(
        self, request: task_scheduler_pb2.GetQueueStatsRequest, context: Context
    ) -> task_scheduler_pb2.GetQueueStatsResponse:
        """Count what waits and runs."""
        desk = self._desk
        desk.check()
        response = queue_stats(desk.core, desk.now().mono_s, only_tenant())
        await desk.settled()
        response.durable_seq = desk.durable_seq
        response.event_count = desk.durable_seq - desk.first_seq
        response.commit_count = desk.commits
        response.log_damage, response.log_checked_seq = desk.damage, desk.checked_seq
        return response

    async def VerifyLog(
        self, request: task_scheduler_pb2.VerifyLogRequest, context: Context
    ) -> task_scheduler_pb2.VerifyLogResponse:
        """Check some of the log."""
        desk = self._desk
        desk.check()
        after_seq = 0
        if request.cursor:
            after_seq = self._cursors.parse(request.cursor, desk.durable_seq)
        checked_seq = await desk.verify(after_seq)
        durable_seq = desk.durable_seq
        more = checked_seq > after_seq and checked_seq < durable_seq
        return task_scheduler_pb2.VerifyLogResponse(
            compacted_seq=desk.compacted_seq,
            checked_seq=checked_seq,
            durable_seq=durable_seq,
            next_cursor=self._cursors.format(checked_seq) if more else "",
            partition=self._partition,
        )

    async def ListPartitions(
        self, request: task_scheduler_pb2.ListPartitionsRequest, context: Context
    ) -> task_scheduler_pb2.ListPartitionsResponse:
        """Tell of this one."""
        desk = self._desk
        response = task_scheduler_pb2.ListPartitionsResponse()
        told = response.partitions.add(partition=self._partition)
        if request.positions:
            desk.check()
            told.compacted_seq, told.durable_seq = desk.compacted_seq, desk.durable_seq
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
