"""The RPCs of TaskSchedulerService over all partitions, whichever replica is asked.

What is about one task or one tenant goes to the partition where it lies. What is about all is asked
of every partition and made into one answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

from podium.v1 import task_scheduler_pb2, task_scheduler_pb2_grpc
from podium.v1.task_pb2 import Task
from services.kernel.auth import current_principal
from services.kernel.errors import InvalidArgument, NotFound
from services.kernel.pages import decode_token, encode_token, page_size
from services.kernel.rpc import Context
from services.kernel.rules import Checker
from services.task_scheduler.core.ownership import partition_in, partition_of
from services.task_scheduler.servicer import merging
from services.task_scheduler.servicer.choice import list_arguments, only_tenant
from services.task_scheduler.servicer.following import NOW, Merged, positions_of
from services.task_scheduler.servicer.parts import by_ids, in_order_of, like
from services.task_scheduler.servicer.relay import Relay, chained
from services.task_scheduler.servicer.submissions import Submissions

pb = task_scheduler_pb2
DEAD = [Task.STATE_FAILED]


def _of_task(name: str) -> Any:
    """Return a call about one task."""

    async def rpc(self: Front, request: Any, context: Context) -> Any:
        return await self.ask(name, partition_in(request.task_id, self.count), request, context)

    return rpc


def _of_tasks(name: str, merge: Callable[[Sequence[Any]], Any]) -> Any:
    """Return a call about tasks that are named by ids or by a filter."""

    async def rpc(self: Front, request: Any, context: Context) -> Any:
        parts, tokens = self.of_tasks(request, context)
        # One after the other: where one refuses, the next ones have done nothing.
        answers = [await self.ask(name, number, part, context) for number, part in parts]
        if tokens is None and len(answers) == 1:
            return answers[0]
        merged = merge(answers)
        if tokens is None:
            merged.task_ids[:] = in_order_of(request, merged.task_ids)
            return merged
        numbers = [number for number, _ in parts]
        merged.next_page_token = tokens.after(numbers, [one.next_page_token for one in answers])
        return merged

    return rpc


def _of_schedule(name: str) -> Any:
    """Return a call about one schedule."""

    async def rpc(self: Front, request: Any, context: Context) -> Any:
        tenant = request.tenant or current_principal().tenant
        return await self.ask(name, partition_of(tenant, self.count), request, context)

    return rpc


class Front(task_scheduler_pb2_grpc.TaskSchedulerServiceServicer):
    """Stands before the servicers of all partitions.

    Args:
        relay: Asks the one of a partition, wherever it is.
        page_key: Secret of page tokens, the same at all replicas.
    """

    def __init__(self, relay: Relay, page_key: bytes) -> None:
        self.count = relay.places.count
        self.ask: Callable[[str, int, Any, Context], Awaitable[Any]] = relay.unary
        self._relay = relay
        self._key = page_key
        self.submissions = Submissions(self.SubmitTasks)

    GetTask = _of_task("GetTask")
    ExplainTask = _of_task("ExplainTask")
    ProvideInput = _of_task("ProvideInput")
    CancelTasks = _of_tasks("CancelTasks", merging.canceled)
    PauseTasks = _of_tasks("PauseTasks", merging.paused)
    ResumeTasks = _of_tasks("ResumeTasks", merging.resumed)
    RequeueTasks = _of_tasks("RequeueTasks", merging.requeued)
    GetSchedule = _of_schedule("GetSchedule")
    UpdateSchedule = _of_schedule("UpdateSchedule")
    TriggerSchedule = _of_schedule("TriggerSchedule")
    DeleteSchedule = _of_schedule("DeleteSchedule")
    PauseSchedule = _of_schedule("PauseSchedule")
    ResumeSchedule = _of_schedule("ResumeSchedule")

    async def SubmitTasks(
        self, request: pb.SubmitTasksRequest, context: Context
    ) -> pb.SubmitTasksResponse:
        """Take tasks in where their tenant's are."""
        partition = 0
        if self.count > 1:
            own = current_principal().tenant
            found = [partition_of(spec.tenant or own, self.count) for spec in request.tasks]
            partition = found[0] if found else 0
            for index, other in enumerate(found):
                if other != partition:
                    raise InvalidArgument(
                        "BATCH_SPANS_PARTITIONS",
                        f"tasks[{index}] belongs to a tenant of another partition than the first: "
                        "a batch is accepted as a whole, so submit them tenant by tenant.",
                        metadata={"index": str(index)},
                    )
        answer: pb.SubmitTasksResponse = await self.ask("SubmitTasks", partition, request, context)
        return answer

    async def OpenSubmission(
        self, request_iterator: AsyncIterator[pb.OpenSubmissionRequest], context: Context
    ) -> AsyncGenerator[pb.OpenSubmissionResponse, None]:
        """Take tasks in, each submission where its tenant's are."""
        async with aclosing(self.submissions.serve(request_iterator, context)) as answers:
            async for answer in answers:
                yield answer

    async def ListTasks(
        self, request: pb.ListTasksRequest, context: Context
    ) -> pb.ListTasksResponse:
        """Return a page of tasks of all partitions."""
        partitions = self._of_caller(context, request.filter.tenant)
        if len(partitions) == 1:
            answer: pb.ListTasksResponse = await self.ask(
                "ListTasks", partitions[0], request, context
            )
            return answer
        dead = list(request.filter.states) == DEAD
        tasks, token = await self._page(
            ("ListTasks", "tasks", partitions),
            (request, context),
            list_arguments(request.filter),
            order=merging.task_order(dead=dead),
            position_of=lambda task: str(task.last_seq if dead else task.task_id),
            descending=True,
        )
        return pb.ListTasksResponse(tasks=tasks, next_page_token=token)

    async def ListSchedules(
        self, request: pb.ListSchedulesRequest, context: Context
    ) -> pb.ListSchedulesResponse:
        """Return a page of schedules of all partitions."""
        partitions = self._of_caller(context, request.tenant)
        if len(partitions) == 1:
            answer: pb.ListSchedulesResponse = await self.ask(
                "ListSchedules", partitions[0], request, context
            )
            return answer
        schedules, token = await self._page(
            ("ListSchedules", "schedules", partitions),
            (request, context),
            f"{request.tenant}\0{current_principal().subject}".encode(),
            order=lambda one: (one.tenant, one.schedule_id),
            position_of=lambda one: f"{one.tenant}/{one.schedule_id}",
            descending=False,
        )
        return pb.ListSchedulesResponse(schedules=schedules, next_page_token=token)

    async def CreateSchedule(
        self, request: pb.CreateScheduleRequest, context: Context
    ) -> pb.CreateScheduleResponse:
        """Make a schedule where its tenant's tasks are."""
        tenant = request.schedule.spec.tenant or current_principal().tenant
        answer: pb.CreateScheduleResponse = await self.ask(
            "CreateSchedule", partition_of(tenant, self.count), request, context
        )
        return answer

    async def PauseQueue(
        self, request: pb.PauseQueueRequest, context: Context
    ) -> pb.PauseQueueResponse:
        """Pause a type of tasks, a tenant, or both."""
        partitions = self._of_tenant(context, request.tenant)
        await self._each("PauseQueue", partitions, request, context)
        return pb.PauseQueueResponse()

    async def ResumeQueue(
        self, request: pb.ResumeQueueRequest, context: Context
    ) -> pb.ResumeQueueResponse:
        """End such a pause, wherever it holds."""
        partitions = self._of_tenant(context, request.tenant)
        missing: list[NotFound] = []
        for partition in partitions:
            try:
                await self.ask("ResumeQueue", partition, request, context)
            except NotFound as error:
                missing.append(error)
        if len(missing) == len(partitions):
            raise missing[0]
        return pb.ResumeQueueResponse()

    async def GetQueueStats(
        self, request: pb.GetQueueStatsRequest, context: Context
    ) -> pb.GetQueueStatsResponse:
        """Count what waits and runs in all partitions."""
        parts = await self._each("GetQueueStats", self._all(context), request, context)
        return parts[0] if len(parts) == 1 else merging.stats_of(parts)

    async def VerifyLog(
        self, request: pb.VerifyLogRequest, context: Context
    ) -> pb.VerifyLogResponse:
        """Check some of the log, partition after partition."""
        partition = min(positions_of(request.cursor, self.count), default=0)
        answer: pb.VerifyLogResponse = await self.ask("VerifyLog", partition, request, context)
        if not answer.next_cursor and partition + 1 < self.count:
            answer.next_cursor = f"{partition + 1:02x}-0"
        return answer

    async def ListPartitions(
        self, request: pb.ListPartitionsRequest, context: Context
    ) -> pb.ListPartitionsResponse:
        """Tell who owns what."""
        named = self._relay.named(context)
        if named is not None:
            answer: pb.ListPartitionsResponse = await self.ask(
                "ListPartitions", named, request, context
            )
            return answer
        places = self._relay.places
        response = pb.ListPartitionsResponse()
        for number in range(self.count):
            here = places.servicer(number) is not None
            address = places.own_address() if here else places.address(number)
            response.partitions.add(partition=number, owner_address=address)
        if request.positions:
            asked = [self.ask("ListPartitions", n, request, context) for n in range(self.count)]
            for told, one in zip(
                response.partitions,
                await asyncio.gather(*asked, return_exceptions=True),
                strict=True,
            ):
                if isinstance(one, pb.ListPartitionsResponse):
                    told.compacted_seq = one.partitions[0].compacted_seq
                    told.durable_seq = one.partitions[0].durable_seq
        return response

    async def WatchTasks(  # type: ignore[override]  # bytes of the message, see `encoded`
        self, request: pb.WatchTasksRequest, context: Context
    ) -> AsyncGenerator[bytes, None]:
        """Follow some tasks."""
        chosen: list[int] | None = None
        if request.task_ids and not request.submitter_id:
            chosen = sorted({partition_in(one, self.count) for one in request.task_ids})
        merged = self._watch("WatchTasks", pb.WatchTasksResponse, request, context, chosen)
        async with aclosing(merged) as messages:
            async for message in messages:
                yield message

    async def WatchEvents(  # type: ignore[override]  # bytes of the message, see `encoded`
        self, request: pb.WatchEventsRequest, context: Context
    ) -> AsyncGenerator[bytes, None]:
        """Follow the logs."""
        merged = self._watch("WatchEvents", pb.WatchEventsResponse, request, context, None)
        async with aclosing(merged) as messages:
            async for message in messages:
                yield message

    async def OpenDispatch(  # type: ignore[override]  # bytes of the message, see `encoded`
        self, request_iterator: AsyncIterator[pb.OpenDispatchRequest], context: Context
    ) -> AsyncGenerator[bytes, None]:
        """Serve a router for the partition that it names."""
        partition, requests = 0, request_iterator
        if self.count > 1:
            first = await anext(request_iterator, None)
            if first is None:
                return
            requests = chained(first, request_iterator)
            hello = next((one.hello for one in first.reports if one.HasField("hello")), None)
            if hello is not None:
                checker = Checker()
                checker.integer("partition", hello.partition, 0, self.count - 1)
                checker.done()
                partition = hello.partition
        stream = self._relay.stream("OpenDispatch", partition, requests, context)
        async with aclosing(stream) as messages:
            async for message in messages:
                yield message

    def of_tasks(
        self, request: Any, context: Context
    ) -> tuple[list[tuple[int, Any]], merging.Tokens | None]:
        """Return which partitions a request is about, what each is asked, and how to go on."""
        if self.count == 1:
            return [(0, request)], None
        if not request.task_ids:
            partitions = self._of_caller(context, request.filter.tenant)
            if len(partitions) == 1:
                return [(partitions[0], request)], None
            tokens = merging.Tokens(list_arguments(request.filter), self._key)
            left = tokens.of(request.page_token, partitions)
            return [(n, like(request, page_token=token)) for n, token in left.items()], tokens
        return by_ids(request, self.count), None

    async def _watch(
        self, name: str, response: Any, request: Any, context: Context, chosen: list[int] | None
    ) -> AsyncGenerator[bytes, None]:
        named = self._relay.named(context)
        # Checked by the partition itself where there is but one.
        at = positions_of(request.cursor, self.count) if self.count > 1 and named is None else {}
        partitions = [named] if named is not None else sorted({*at, *(chosen or ())})
        partitions = partitions or self._of_caller(context, "")

        def open_one(partition: int, cursor: str) -> AsyncGenerator[bytes, None]:
            part = request
            if cursor != request.cursor:
                part = like(request, cursor=cursor)
            return self._relay.stream(name, partition, part, context)

        if len(partitions) == 1:
            stream = open_one(partitions[0], request.cursor)
        else:
            # The cursor of a submit names but one of them: the others begin at their start.
            missing = [number for number in partitions if number not in at]
            first = await self._begin(request.cursor, missing, context)
            positions = at | first
            # What is dropped from now on is a gap only for those who came before.
            begin = at | (first if request.cursor == NOW else dict.fromkeys(missing, ""))
            merged = Merged(response, open_one, positions, whole=name == "WatchEvents")
            stream = merged.messages(begin)
        async with aclosing(stream) as messages:
            async for message in messages:
                yield message

    async def _begin(
        self, cursor: str, partitions: Sequence[int], context: Context
    ) -> dict[int, str]:
        """Return the first position of each log, or the last one for `NOW`."""
        request = pb.ListPartitionsRequest(positions=True)
        answers = await self._each("ListPartitions", partitions, request, context)
        told = [answer.partitions[0] for answer in answers]
        return {
            one.partition: f"{one.partition:02x}-"
            f"{one.durable_seq if cursor == NOW else one.compacted_seq}"
            for one in told
        }

    async def _page(
        self,
        what: tuple[str, str, Sequence[int]],
        call: tuple[Any, Context],
        arguments: bytes,
        *,
        order: Callable[[Any], Any],
        position_of: Callable[[Any], str],
        descending: bool,
    ) -> tuple[list[Any], str]:
        """Return a page over several partitions, and the token of the next one."""
        (name, field, partitions), (request, context) = what, call
        size = page_size(request.page_size)
        at = decode_token(request.page_token, arguments, self._key)
        positions = merging.positions_in(at, partitions)

        async def part_of(partition: int, position: str) -> merging.Part:
            token = encode_token(position, arguments, self._key) if position else ""
            part = like(request, page_token=token)
            answer = await self.ask(name, partition, part, context)
            after = decode_token(answer.next_page_token, arguments, self._key) or merging.END
            return merging.Part(getattr(answer, field), position, after)

        open_ones = {n: position for n, position in positions.items() if position != merging.END}
        found = await asyncio.gather(*(part_of(n, at) for n, at in open_ones.items()))
        parts = dict(zip(open_ones, found, strict=True))
        items, after = merging.page_of(parts, size, order, position_of, descending=descending)
        return items, encode_token(after, arguments, self._key) if after else ""

    async def _each(
        self, name: str, partitions: Sequence[int], request: Any, context: Context
    ) -> list[Any]:
        if len(partitions) == 1:
            return [await self.ask(name, partitions[0], request, context)]
        asked = [self.ask(name, number, request, context) for number in partitions]
        return list(await asyncio.gather(*asked))

    def _all(self, context: Context) -> list[int]:
        named = self._relay.named(context) if self.count > 1 else None
        return list(range(self.count)) if named is None else [named]

    def _of_tenant(self, context: Context, tenant: str) -> list[int]:
        return [partition_of(tenant, self.count)] if tenant else self._all(context)

    def _of_caller(self, context: Context, tenant: str) -> list[int]:
        """Return the partitions of a tenant, or of all that the caller may see."""
        return self._of_tenant(context, tenant or only_tenant() or "")
