"""The services behind the bridge as far as its tests need them, each remembering what it heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf.duration_pb2 import Duration

from podium.v1 import (
    agent_registry_pb2,
    agent_registry_pb2_grpc,
    analytics_pb2_grpc,
    routing_pb2,
    routing_pb2_grpc,
    task_scheduler_pb2,
    task_scheduler_pb2_grpc,
)
from podium.v1.agent_pb2 import Agent
from podium.v1.event_pb2 import Event
from podium.v1.session_pb2 import AgentFrame, Ready, Refusal, RouterFrame, Superseded
from podium.v1.task_pb2 import Task
from services.kernel.errors import NotFound, Unavailable
from services.kernel.inprocess import InProcessHub


def canned(servicer: type, *methods: str) -> Callable[[type[Any]], type[Any]]:
    """Gives a fake calls that note what they heard and return what `answers` has for them."""

    def made(method: str) -> Any:
        unimplemented = getattr(servicer, method)

        async def answer(self: Any, request: Any, context: Any) -> Any:
            self.heard.append(request)
            if method not in self.answers:
                return unimplemented(self, request, context)
            return self.answers[method]

        return answer

    def give(fake: type[Any]) -> type[Any]:
        for method in methods:
            setattr(fake, method, made(method))
        return fake

    return give


@canned(
    task_scheduler_pb2_grpc.TaskSchedulerServiceServicer,
    *("CancelTasks", "ListTasks", "ExplainTask", "ProvideInput", "RequeueTasks", "GetQueueStats"),
)
class Scheduler(task_scheduler_pb2_grpc.TaskSchedulerServiceServicer):
    def __init__(self) -> None:
        self.submitted: list[task_scheduler_pb2.SubmitTasksRequest] = []
        self.watching: list[task_scheduler_pb2.WatchTasksRequest] = []
        self.events: asyncio.Queue[list[Event] | Exception] = asyncio.Queue()
        self.release = asyncio.Event()
        self.metadata: list[tuple[str, str]] = []
        self.heard: list[Any] = []
        self.answers: dict[str, Any] = {}

    async def SubmitTasks(self, request: Any, context: Any) -> Any:
        self.submitted.append(request)
        self.metadata = [(key, str(value)) for key, value in context.invocation_metadata() or ()]
        ids = [f"t-{index}" for index, _ in enumerate(request.tasks, 1)]
        return task_scheduler_pb2.SubmitTasksResponse(task_ids=ids, cursor="7")

    async def GetTask(self, request: Any, context: Any) -> Any:
        if request.task_id == "slow":
            await self.release.wait()
        if request.task_id == "missing":
            raise NotFound("TASK_NOT_FOUND", "There is no task missing.")
        task = Task(task_id=request.task_id, state=Task.STATE_RUNNING)
        return task_scheduler_pb2.GetTaskResponse(task=task)

    async def WatchTasks(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.watching.append(request)
        while True:
            batch = await self.events.get()
            if isinstance(batch, Exception):
                raise batch
            yield task_scheduler_pb2.WatchTasksResponse(
                events=batch, cursor=str(batch[-1].seq) if batch else "0"
            )


@canned(
    agent_registry_pb2_grpc.AgentRegistryServiceServicer,
    *("DrainAgents", "QuarantineAgent", "ReleaseAgent"),
)
class Registry(agent_registry_pb2_grpc.AgentRegistryServiceServicer):
    def __init__(self) -> None:
        self.watching = 0
        self.agents: asyncio.Queue[Any] = asyncio.Queue()
        self.heard: list[Any] = []
        self.answers: dict[str, Any] = {}

    async def WatchAgents(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.watching += 1
        try:
            while True:
                change = await self.agents.get()
                if isinstance(change, Exception):
                    raise change
                yield change
        finally:
            self.watching -= 1

    async def ListAgents(self, request: Any, context: Any) -> Any:
        agent = Agent(agent_id="a-1", status=Agent.STATUS_IDLE)
        return agent_registry_pb2.ListAgentsResponse(agents=[agent], total_size=1)


class Analytics(analytics_pb2_grpc.AnalyticsServiceServicer):
    async def GetTrace(self, request: Any, context: Any) -> Any:
        raise Unavailable("STARTING", "Analytics starts.", retry_after_s=0.5)


class Saying:
    """What a Routing says: each frame on the stream on which its agent said Hello last."""

    def __init__(self) -> None:
        self.open: list[asyncio.Queue[list[RouterFrame] | Exception]] = []
        self.of_agent: dict[str, asyncio.Queue[list[RouterFrame] | Exception]] = {}

    def put_nowait(self, said: list[RouterFrame] | Exception) -> None:
        """Says frames; those of no agent, and an end, on all streams."""
        if isinstance(said, Exception):
            for stream in self.open:
                stream.put_nowait(said)
            return
        batches: dict[asyncio.Queue[Any], list[RouterFrame]] = {}
        for frame in said:
            stream = self.of_agent.get(frame.agent_id, self.open[0])
            for each in [stream] if frame.agent_id else self.open:
                batches.setdefault(each, []).append(frame)
        for stream, frames in batches.items():
            stream.put_nowait(frames)


class Routing(routing_pb2_grpc.RoutingServiceServicer):
    def __init__(self) -> None:
        self.streams = 0
        self.frames: list[AgentFrame] = []
        self.heard = asyncio.Event()
        self.say = Saying()
        self.stays = ""
        """The instance that stays for good; by default each that says Hello takes over."""
        self.refusal: Refusal | None = None
        """What every Hello gets."""
        self.welcoming = True
        self._instances: dict[str, tuple[str, asyncio.Queue[Any]]] = {}

    async def OpenSession(
        self, request_iterator: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[Any]:
        self.streams += 1
        stream: asyncio.Queue[list[RouterFrame] | Exception] = asyncio.Queue()
        self.say.open.append(stream)
        reader = asyncio.create_task(self._read(request_iterator, stream))
        try:
            while True:
                frames = await stream.get()
                if isinstance(frames, Exception):
                    raise frames
                yield routing_pb2.OpenSessionResponse(frames=frames)
        finally:
            self.say.open.remove(stream)
            reader.cancel()

    async def _read(self, requests: AsyncIterator[Any], stream: asyncio.Queue[Any]) -> None:
        async for request in requests:
            for frame in request.frames:
                self.frames.append(frame)
                if frame.HasField("hello"):
                    self._hello(frame, stream)
                if frame.HasField("detached"):
                    self._instances.pop(frame.agent_id, None)
            self.heard.set()

    def _hello(self, frame: AgentFrame, stream: asyncio.Queue[Any]) -> None:
        agent_id, instance_id = frame.agent_id, frame.hello.instance_id
        if not self.welcoming:
            return
        if self.refusal is not None:
            stream.put_nowait([RouterFrame(agent_id=agent_id, refusal=self.refusal)])
            return
        known, before = self._instances.get(agent_id, ("", stream))
        if self.stays and known == self.stays != instance_id:
            over = Superseded(instance_id=known)
            stream.put_nowait([RouterFrame(agent_id=agent_id, seq=1, superseded=over)])
            return
        if known and known != instance_id:
            over = Superseded(instance_id=instance_id)
            before.put_nowait([RouterFrame(agent_id=agent_id, superseded=over)])
        self._instances[agent_id] = instance_id, stream
        self.say.of_agent[agent_id] = stream
        ready = Ready(
            session_id="s-1",
            resume_token="r-1",
            lease_ttl=Duration(seconds=30),
            router_id="router-1",
        )
        stream.put_nowait([RouterFrame(agent_id=agent_id, seq=1, ready=ready)])

    def said(self, arm: str) -> list[AgentFrame]:
        """Returns the frames of one kind."""
        return [frame for frame in self.frames if frame.WhichOneof("frame") == arm]


class Peers:
    """All of them, reached through one hub, but for further Routings: each has its own."""

    def __init__(self, routings: int = 1) -> None:
        self.scheduler = Scheduler()
        self.registry = Registry()
        self.analytics = Analytics()
        self.routings = [Routing() for _ in range(routings)]
        self.hubs = [InProcessHub() for _ in self.routings]
        hub: Any = self.hubs[0]
        task_scheduler_pb2_grpc.add_TaskSchedulerServiceServicer_to_server(self.scheduler, hub)
        agent_registry_pb2_grpc.add_AgentRegistryServiceServicer_to_server(self.registry, hub)
        analytics_pb2_grpc.add_AnalyticsServiceServicer_to_server(self.analytics, hub)
        for routing, its in zip(self.routings, self.hubs, strict=True):
            its_hub: Any = its
            routing_pb2_grpc.add_RoutingServiceServicer_to_server(routing, its_hub)

    @property
    def routing(self) -> Routing:
        return self.routings[0]

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(f"routing-{index}:1" for index, _ in enumerate(self.routings))

    def dial(self, address: str) -> Any:
        """Returns a channel to the peer of that address."""
        index = self.addresses.index(address) if address in self.addresses else 0
        return self.hubs[index].dial(address)
