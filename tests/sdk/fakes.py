"""A router and a scheduler made of the stubs alone, which do what a test tells them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from podium.sdk.settings import Settings
from podium.v1 import (
    event_pb2,
    routing_pb2,
    routing_pb2_grpc,
    session_pb2,
    task_pb2,
    task_scheduler_pb2,
    task_scheduler_pb2_grpc,
)
from podium.v1.session_pb2 import AgentFrame, LeaseVerdict, ResultAck, RouterFrame

KEEP = LeaseVerdict.VERDICT_KEEP
DONE = task_pb2.Payload(content_type="text/plain", data=b"done")


class Stream:
    """One session stream that the fake router holds."""

    def __init__(self) -> None:
        self.outgoing: asyncio.Queue[list[RouterFrame] | None] = asyncio.Queue()
        self.agents: list[str] = []
        self.ended = False


class FakeRouter(routing_pb2_grpc.RoutingServiceServicer):
    """Welcomes agents, notes what they say, and says what a test wants."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.messages: list[list[AgentFrame]] = []
        # All frames of all streams, of both sides, in the order in which they passed here.
        self.log: list[tuple[Stream, AgentFrame | RouterFrame]] = []
        self.reported: list[routing_pb2.ReportResultRequest] = []
        self.welcoming = True
        self.acking = True
        self.refusal: tuple[grpc.StatusCode, str] | None = None
        # Why each Hello is refused, and its session closed, on a stream that stays open.
        self.closing = ""
        # With which time to stay away.
        self.retry_ms = 0
        self.verdict: LeaseVerdict.Verdict = KEEP
        self.heartbeat_ms = 60_000
        self.renew_ms = 60_000
        self.lease_ms = 0
        # Streams on which it does not hear what is said but Hello.
        self.deaf: set[int] = set()
        self.frame_bytes_max = 0
        self._seq = 0
        self.loop = asyncio.get_running_loop()

    # --- For tests, from any thread --------------------------------------------------------

    def frames(self, kind: str = "") -> list[AgentFrame]:
        """Returns the frames of a kind that came, in order."""
        frames = [frame for message in list(self.messages) for frame in message]
        return [frame for frame in frames if not kind or frame.WhichOneof("frame") == kind]

    def say(self, frame: RouterFrame, stream: int = -1) -> None:
        """Sends a frame on a stream, by default the last."""
        self._seq += 1
        frame.seq = self._seq
        queue = self.streams[stream].outgoing
        self.loop.call_soon_threadsafe(queue.put_nowait, [frame])

    def assign(self, agent_id: str, task_id: str = "t1", **fields: Any) -> None:
        """Assigns a task."""
        given = {"lease_epoch": 1, "attempt": 1, "spec": spec(), **fields}
        assign = session_pb2.Assign(task_id=task_id, **given)
        self.say(RouterFrame(agent_id=agent_id, assign=assign))

    def welcome(self, agent_id: str, stream: int = -1) -> None:
        """Accepts an agent that was not welcomed at once."""
        self.say(RouterFrame(agent_id=agent_id, ready=session_pb2.Ready(session_id="s1")), stream)

    def end(self, stream: int = -1) -> None:
        """Ends a stream."""
        self.loop.call_soon_threadsafe(self.streams[stream].outgoing.put_nowait, None)

    def refuse_sessions(self) -> None:
        """Ends all streams and lets no new one in, until further notice."""
        self.refusal = (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        for number in range(len(self.streams)):
            self.end(number)

    # --- The service -----------------------------------------------------------------------

    async def OpenSession(
        self, requests: AsyncIterator[routing_pb2.OpenSessionRequest], context: Any
    ) -> AsyncIterator[routing_pb2.OpenSessionResponse]:
        if self.refusal is not None:
            await refuse(context, *self.refusal)
        stream = Stream()
        self.streams.append(stream)
        reader = asyncio.create_task(self._read(stream, requests))
        try:
            while (frames := await stream.outgoing.get()) is not None:
                self.log += [(stream, frame) for frame in frames]
                yield routing_pb2.OpenSessionResponse(frames=frames)
        finally:
            stream.ended = True
            reader.cancel()

    async def _read(
        self, stream: Stream, requests: AsyncIterator[routing_pb2.OpenSessionRequest]
    ) -> None:
        async for request in requests:
            self.messages.append(list(request.frames))
            self.log += [(stream, frame) for frame in request.frames]
            for frame in request.frames:
                self._answer(stream, frame)
        stream.outgoing.put_nowait(None)

    def _answer(self, stream: Stream, frame: AgentFrame) -> None:
        if frame.HasField("hello") and self.closing:
            refusal = session_pb2.Refusal(reason=self.closing, message="not now", closing=True)
            if self.retry_ms:
                refusal.retry_after.FromMilliseconds(self.retry_ms)
            stream.outgoing.put_nowait([RouterFrame(agent_id=frame.agent_id, refusal=refusal)])
        elif frame.HasField("hello") and self.welcoming:
            stream.agents.append(frame.agent_id)
            ready = session_pb2.Ready(
                session_id="s1",
                resume_token=f"token-{len(self.streams)}",
                resumed=bool(frame.hello.resume_token),
                frame_bytes_max=self.frame_bytes_max,
                verdicts=[
                    LeaseVerdict(lease=ref, verdict=self.verdict) for ref in frame.hello.in_flight
                ],
            )
            ready.heartbeat_interval.FromMilliseconds(self.heartbeat_ms)
            ready.renew_interval.FromMilliseconds(self.renew_ms)
            if self.lease_ms:
                ready.lease_ttl.FromMilliseconds(self.lease_ms)
            self._seq += 1
            answer = RouterFrame(agent_id=frame.agent_id, seq=self._seq, ready=ready)
            stream.outgoing.put_nowait([answer])
        if frame.HasField("renew") and self.streams.index(stream) not in self.deaf:
            held = session_pb2.RenewAck(held=frame.renew.leases)
            stream.outgoing.put_nowait([RouterFrame(agent_id=frame.agent_id, renew_ack=held)])
        if frame.HasField("result") and self.acking:
            ack = ResultAck(lease=frame.result.lease, verdict=ResultAck.VERDICT_ACCEPTED)
            stream.outgoing.put_nowait([RouterFrame(agent_id=frame.agent_id, result_ack=ack)])

    async def ReportResult(
        self, request: routing_pb2.ReportResultRequest, context: Any
    ) -> routing_pb2.ReportResultResponse:
        self.reported.append(request)
        return routing_pb2.ReportResultResponse(verdict=ResultAck.VERDICT_ACCEPTED)


class FakeScheduler(task_scheduler_pb2_grpc.TaskSchedulerServiceServicer):
    """Accepts tasks, numbers them, and ends them when a test says so."""

    def __init__(self) -> None:
        self.batches: list[list[task_pb2.TaskSpec]] = []
        self.asked: list[list[task_pb2.TaskSpec]] = []
        """Those that are not answered yet as well."""
        self.tasks: dict[str, task_pb2.Task] = {}
        self.by_request_id: dict[str, str] = {}
        self.events: list[event_pb2.Event] = []
        self.lists: list[task_scheduler_pb2.ListTasksRequest] = []
        self.watches: list[task_scheduler_pb2.WatchTasksRequest] = []
        self.failures: list[tuple[grpc.StatusCode, str]] = []
        self.submissions: list[list[task_scheduler_pb2.SubmitTasksRequest]] = []
        """What came over each stream."""
        self.called: list[task_scheduler_pb2.SubmitTasksRequest] = []
        """What came by calls."""
        # How the next streams end, each at its first submission and before it answers; None = with
        # no error.
        self.stream_ends: list[tuple[grpc.StatusCode, str] | None] = []
        self.watch_batches_max = 1_000_000
        self.answering = asyncio.Event()
        self.answering.set()
        self.completing = False
        self._changed = asyncio.Condition()

    async def end(
        self,
        task_id: str,
        state: task_pb2.Task.State,
        reason: str = "",
        result: task_pb2.Payload = DONE,
    ) -> None:
        """Ends a task."""
        task = self.tasks[task_id]
        task.state = state
        event = event_pb2.Event(task_id=task_id, task_type=task.spec.type)
        if state == task_pb2.Task.STATE_COMPLETED:
            event.type = event_pb2.Event.TYPE_COMPLETED
            event.completed.total_duration.FromMilliseconds(20)
            task.result.CopyFrom(result)
            event.completed.result.CopyFrom(result)
        else:
            name = task_pb2.Task.State.Name(state).removeprefix("STATE_")
            event.type = event_pb2.Event.Type.Value(f"TYPE_{name}")
            event.failed.failure.reason = task.failure.reason = reason
            event.failed.failure.message = task.failure.message = "said why"
        await self.append(event)

    async def append(self, event: event_pb2.Event) -> None:
        """Writes an event to the log."""
        event.seq = len(self.events) + 1
        self.events.append(event)
        async with self._changed:
            self._changed.notify_all()

    async def SubmitTasks(
        self, request: task_scheduler_pb2.SubmitTasksRequest, context: Any
    ) -> task_scheduler_pb2.SubmitTasksResponse:
        self.called.append(request)
        try:
            return await self._take(request)
        except Refused as refused:
            await refuse(context, *refused.why)
            raise AssertionError from refused

    async def OpenSubmission(
        self, requests: AsyncIterator[task_scheduler_pb2.OpenSubmissionRequest], context: Any
    ) -> None:
        stream: list[task_scheduler_pb2.SubmitTasksRequest] = []
        self.submissions.append(stream)
        work, writing = set(), asyncio.Lock()

        async def answer(asked: task_scheduler_pb2.OpenSubmissionRequest) -> None:
            told = task_scheduler_pb2.SubmissionAnswer(submission_id=asked.submission_id)
            try:
                told.accepted.CopyFrom(await self._take(asked.request))
            except Refused as refused:
                told.refused.CopyFrom(refused.message())
            async with writing:
                await context.write(task_scheduler_pb2.OpenSubmissionResponse(answers=[told]))

        async for asked in requests:
            stream.append(asked.request)
            if self.stream_ends:
                if (end := self.stream_ends.pop(0)) is not None:
                    await refuse(context, *end)
                return
            work.add(asyncio.create_task(answer(asked)))

    async def _take(
        self, request: task_scheduler_pb2.SubmitTasksRequest
    ) -> task_scheduler_pb2.SubmitTasksResponse:
        self.asked.append(list(request.tasks))
        await self.answering.wait()
        if self.failures:
            raise Refused(*self.failures.pop(0))
        if any(spec.type == "bad" for spec in request.tasks):
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        self.batches.append(list(request.tasks))
        response = task_scheduler_pb2.SubmitTasksResponse(cursor=str(len(self.events)))
        for index, spec in enumerate(request.tasks):
            known = self.by_request_id.get(spec.request_id)
            if known is not None:
                response.duplicate_indexes.append(index)
            task_id = known or f"task-{len(self.tasks)}"
            response.task_ids.append(task_id)
            if known is None:
                self.by_request_id[spec.request_id] = task_id
                self.tasks[task_id] = task_pb2.Task(
                    task_id=task_id, spec=spec, state=task_pb2.Task.STATE_QUEUED
                )
                if self.completing:
                    await self.end(task_id, task_pb2.Task.STATE_COMPLETED)
        return response

    async def GetTask(
        self, request: task_scheduler_pb2.GetTaskRequest, context: Any
    ) -> task_scheduler_pb2.GetTaskResponse:
        if request.task_id not in self.tasks:
            await refuse(context, grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND")
        return task_scheduler_pb2.GetTaskResponse(task=self.tasks[request.task_id])

    async def ListTasks(
        self, request: task_scheduler_pb2.ListTasksRequest, context: Any
    ) -> task_scheduler_pb2.ListTasksResponse:
        self.lists.append(request)
        start = int(request.page_token or 0)
        tasks = list(self.tasks.values())[::-1]
        end = start + min(request.page_size, 10)
        return task_scheduler_pb2.ListTasksResponse(
            tasks=tasks[start:end], next_page_token=str(end) if end < len(tasks) else ""
        )

    async def CancelTasks(
        self, request: task_scheduler_pb2.CancelTasksRequest, context: Any
    ) -> task_scheduler_pb2.CancelTasksResponse:
        for task_id in request.task_ids:
            if self.tasks[task_id].state == task_pb2.Task.STATE_COMPLETED:
                await refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "TASK_ENDED")
            await self.end(task_id, task_pb2.Task.STATE_CANCELED, "CANCELED")
        return task_scheduler_pb2.CancelTasksResponse(task_ids=request.task_ids)

    async def WatchTasks(
        self, request: task_scheduler_pb2.WatchTasksRequest, context: Any
    ) -> AsyncIterator[task_scheduler_pb2.WatchTasksResponse]:
        self.watches.append(request)
        position = len(self.events) if request.cursor == "now" else int(request.cursor or 0)
        for _ in range(self.watch_batches_max):
            async with self._changed:
                while position >= len(self.events):
                    await self._changed.wait()
            events = [
                event
                for event in self.events[position:]
                if (not request.task_ids or event.task_id in request.task_ids)
                and (not request.types or event.type in request.types)
            ]
            position = len(self.events)
            yield task_scheduler_pb2.WatchTasksResponse(events=events, cursor=str(position))
        await refuse(context, grpc.StatusCode.UNAVAILABLE, "DRAINING")


class Refused(Exception):
    """What a submission is refused for."""

    def __init__(self, *why: Any) -> None:
        self.why = why

    def message(self) -> task_scheduler_pb2.SubmissionRefusal:
        code, reason = self.why
        refusal = task_scheduler_pb2.SubmissionRefusal(
            code=code.name, reason=reason, message=f"refused: {reason}", metadata={"field": "x"}
        )
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            refusal.retry_after.FromSeconds(30)
        return refusal


async def refuse(context: Any, code: grpc.StatusCode, reason: str) -> None:
    """Ends a call as the services do."""
    info = error_details_pb2.ErrorInfo(reason=reason, domain="podium", metadata={"field": "x"})
    details = [AnyMessage()]
    details[0].Pack(info)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        later = error_details_pb2.RetryInfo()
        later.retry_delay.FromSeconds(30)
        details.append(AnyMessage())
        details[1].Pack(later)
    status = status_pb2.Status(code=code.value[0], message=f"refused: {reason}", details=details)
    await context.abort_with_status(rpc_status.to_status(status))


def spec(task_type: str = "work", data: bytes = b"") -> task_pb2.TaskSpec:
    """Returns a specification as a scheduler passes it on."""
    return task_pb2.TaskSpec(
        type=task_type, payload=task_pb2.Payload(content_type="text/plain", data=data)
    )


@asynccontextmanager
async def serving(
    *add: tuple[Callable[[Any, grpc.aio.Server], None], Any], port: int = 0
) -> AsyncIterator[str]:
    """Serves fakes on the running loop; yields the address."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    for register, servicer in add:
        register(servicer, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{bound}"
    finally:
        await server.stop(0)


def router_of(fake: FakeRouter) -> tuple[Callable[[Any, grpc.aio.Server], None], Any]:
    return routing_pb2_grpc.add_RoutingServiceServicer_to_server, fake


def scheduler_of(fake: FakeScheduler) -> tuple[Callable[[Any, grpc.aio.Server], None], Any]:
    return task_scheduler_pb2_grpc.add_TaskSchedulerServiceServicer_to_server, fake


def settings(**addresses: str) -> Settings:
    """Returns settings that send spans nowhere."""
    return Settings(otlp_endpoint="off", **addresses)


def results(frames: Iterable[AgentFrame]) -> list[tuple[str, str]]:
    """Returns task and outcome of Result frames."""
    return [(f.result.lease.task_id, f.result.WhichOneof("outcome") or "") for f in frames]
