"""The suite as real processes with short times, and what a test needs to stand before it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import grpc.aio

from podium.sdk.settings import Settings
from podium.v1 import (
    agent_pb2,
    agent_registry_pb2,
    agent_registry_pb2_grpc,
    event_pb2,
    routing_pb2_grpc,
    session_pb2,
    task_pb2,
    task_scheduler_pb2,
    task_scheduler_pb2_grpc,
)
from services import suite
from services.kernel.dialing import BearerChannel
from services.kernel.options import dial
from tests.routing.peers import Wire
from tests.support.ports import free_port, ports_of
from tests.support.processes import ROOT, Process, Processes
from tests.support.proxy import Proxy, proxied
from tests.support.waiting import eventually

LEASE_S = 2.0
ACK_S = 1.0
GRACE_S = 1.0
PROBE_S = 1.0
AGENT_GRACE_S = 3.0
TIMES = {
    "PODIUM_LEASE_TTL_S": LEASE_S,
    "PODIUM_ACK_TIMEOUT_S": ACK_S,
    "PODIUM_DETACH_GRACE_S": GRACE_S,
    "PODIUM_PROBE_S": PROBE_S,
    "PODIUM_AGENT_GRACE_S": AGENT_GRACE_S,
    "PODIUM_HEARTBEAT_S": 0.5,
    "PODIUM_ROUTER_GRACE_S": 1.0,
    "PODIUM_JOURNAL": "memory",
    "PODIUM_OTLP_ENDPOINT": "off",
}
SERVICES = ("task_scheduler", "agent_registry", "routing")
Event = event_pb2.Event
Task = task_pb2.Task


class Caller(Wire):
    """A stream whose agents answer probes, unless a test says otherwise."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.answers_probes = True
        super().__init__(channel)

    async def received(self, frames: Any) -> None:
        for frame in frames:
            if self.answers_probes and frame.HasField("probe"):
                reply = session_pb2.ProbeReply(nonce=frame.probe.nonce)
                await self.send(session_pb2.AgentFrame(agent_id=frame.agent_id, probe_reply=reply))


CallerT = TypeVar("CallerT", bound=Caller)


class Stage:
    """A suite, its clients, and every event that it tells."""

    def __init__(self, running: suite.Suite, processes: Processes, token: str = "") -> None:
        self.suite = running
        self.processes = processes
        self.events: list[Event] = []
        self.channels: dict[str, grpc.aio.Channel] = {}
        for name, address in running.addresses.items():
            channel = dial(address)
            self.channels[name] = BearerChannel(channel, lambda: token) if token else channel
        make = task_scheduler_pb2_grpc.TaskSchedulerServiceStub
        self.scheduler: Any = make(self.channels["task_scheduler"])
        self.registry: Any = agent_registry_pb2_grpc.AgentRegistryServiceStub(
            self.channels["agent_registry"]
        )
        self.routing: Any = routing_pb2_grpc.RoutingServiceStub(self.channels["routing"])
        self._wires: list[Caller] = []
        self._workers: list[Process] = []
        self._own: list[grpc.aio.Channel] = []

    # Tasks.

    async def submit(self, task_type: str, *data: str, count: int = 1, **given: Any) -> list[str]:
        """Submits a task for each of `data`, or `count` of them, and returns their ids."""
        request = task_scheduler_pb2.SubmitTasksRequest()
        for each in data or ("",) * count:
            spec = request.tasks.add(type=task_type, **given)
            spec.payload.data = each.encode()
            if not spec.HasField("retry_policy"):
                spec.retry_policy.initial_backoff.FromMilliseconds(50)
                spec.retry_policy.max_retries = 3
        return list((await self.scheduler.SubmitTasks(request)).task_ids)

    async def submit_one(self, task_type: str, data: str = "", **given: Any) -> str:
        return (await self.submit(task_type, data, **given))[0]

    async def task(self, task_id: str) -> Task:
        request = task_scheduler_pb2.GetTaskRequest(task_id=task_id)
        return (await self.scheduler.GetTask(request)).task

    async def ended(self, *task_ids: str, within_s: float = 40.0) -> Task:
        """Waits until all tasks have ended, and all that led there is noted; returns the last."""
        for task_id in task_ids:
            request = task_scheduler_pb2.GetTaskRequest(task_id=task_id)
            request.wait.FromMilliseconds(round(within_s * 1e3))
            task: Task = (await self.scheduler.GetTask(request)).task
            assert task.HasField("end_time"), (
                f"{task_id} has not ended within {within_s} s: {self.of(task_id)}\n"
                + "\n".join(process.output() for process in self._workers)
            )
            # The answer may be here before the events of the same commit are.
            await self.story(task_id)
        return task

    def of(self, task_id: str) -> list[str]:
        """Returns what happened to a task, in order."""
        return [short(event) for event in self.events if event.task_id == task_id]

    async def story(self, task_id: str) -> list[str]:
        """Returns all that happened to a task, once it has ended, in order."""
        ends = {"COMPLETED", "FAILED", "CANCELED", "EXPIRED"}
        await eventually(lambda: ends & set(self.of(task_id)))
        return self.of(task_id)

    def all_of(self, task_id: str, kind: str) -> list[Event]:
        return [e for e in self.events if e.task_id == task_id and short(e) == kind]

    async def until(self, task_id: str, kind: str, count: int = 1, within_s: float = 30.0) -> Event:
        """Waits for the `count`th event of a kind and returns it."""

        def found() -> Event | None:
            events = self.all_of(task_id, kind)
            return events[count - 1] if len(events) >= count else None

        return await eventually(found, within_s=within_s, told=lambda: f"{self.of(task_id)}")

    async def until_count(self, task_id: str, count: int, *kinds: str) -> None:
        """Waits until so many events of some kinds have happened to a task."""
        await eventually(lambda: sum(kind in kinds for kind in self.of(task_id)) >= count)

    # Agents.

    async def agent(self, agent_id: str) -> agent_pb2.Agent:
        request = agent_registry_pb2.GetAgentRequest(agent_id=agent_id)
        return (await self.registry.GetAgent(request)).agent

    async def status(self, agent_id: str) -> str:
        """Returns where the registry has an agent; empty for one it does not know."""
        try:
            return agent_pb2.Agent.Status.Name((await self.agent(agent_id)).status)[7:]
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND, error
            return ""

    async def until_status(self, agent_id: str, *wanted: str, within_s: float = 30.0) -> str:
        last = ""

        async def found() -> str:
            nonlocal last
            last = status = await self.status(agent_id)
            return status if status in wanted else ""

        return await eventually(found, within_s=within_s, told=lambda: f"({last})")

    def wire(self, address: str = "", *, kind: type[CallerT] = Caller) -> CallerT:
        """Opens a stream of its own to the router, or to another address."""
        channel = self.channels["routing"]
        if address:
            channel = dial(address)
            self._own.append(channel)
        wire = kind(channel)
        self._wires.append(wire)
        return wire

    def worker(
        self,
        agent_id: str,
        *types: str,
        routing: str = "",
        capacity: int = 1,
        token: str = "",
    ) -> Process:
        """Starts an agent of the SDK as a process of its own."""
        environ = {
            "PODIUM_ROUTING_ADDRESS": routing or self.suite.addresses["routing"],
            "PODIUM_OTLP_ENDPOINT": "off",
            "PODIUM_TOKEN": token,
        }
        return self.started("tests.system.worker", agent_id, capacity, *types, environ=environ)

    def started(self, module: str, *arguments: object, **given: Any) -> Process:
        """Starts a program that ends with the test."""
        process = self.processes.python("-m", module, *map(str, arguments), **given)
        self._workers.append(process)
        return process

    async def worked(self, agent_id: str, *types: str, **given: Any) -> Process:
        """Starts a worker and waits until a router has accepted it."""
        process = self.worker(agent_id, *types, **given)
        await eventually(lambda: "accepted" in process.output(), told=process.output)
        return process

    def settings(self, routing: str = "") -> Settings:
        """Returns settings for agents of the SDK in this process."""
        address = routing or self.suite.addresses["routing"]
        return Settings(routing=address, otlp_endpoint="off")

    async def leave(self) -> None:
        """Ends the streams and processes of one test."""
        for wire in self._wires:
            await wire.drop()
        self._wires.clear()
        for channel in self._own:
            await channel.close()
        self._own.clear()
        for process in self._workers:
            await asyncio.to_thread(process.kill)
        self._workers.clear()

    # Services.

    async def kill(self, name: str) -> None:
        await self.suite.end(name, signal.SIGKILL)

    async def start(self, name: str) -> None:
        await self.suite.start(name)
        await self.suite.until_ready(name)

    async def restart(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        await self.suite.restart(name, how)

    async def another_router(self, port: int = 0) -> tuple[Process, str]:
        """Starts one more replica of Routing and returns it with its address."""
        port = port or free_port()
        environ = {**self.suite.environ, "PODIUM_ROUTING_PORT": str(port)}
        process = self.processes.python("-m", "services.routing", environ=environ)
        await asyncio.to_thread(process.wait_for, "podium routing is ready")
        return process, f"127.0.0.1:{port}"

    async def follow(self) -> None:
        """Notes every event, for ever."""
        cursor = ""
        while True:
            request = task_scheduler_pb2.WatchEventsRequest(cursor=cursor)
            try:
                async for batch in self.scheduler.WatchEvents(request):
                    self.events.extend(batch.events)
                    cursor = batch.cursor
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)


def short(event: Event) -> str:
    """Returns the type of an event as one reads it."""
    return Event.Type.Name(event.type).removeprefix("TYPE_")


@asynccontextmanager
async def staged(
    directory: Path,
    *,
    services: tuple[str, ...] = SERVICES,
    environ: Mapping[str, Any] | None = None,
    token: str = "",
) -> AsyncIterator[Stage]:
    """Runs a suite with short times; the token is shown with every call of the stage's own."""
    settings = {name: str(value) for name, value in {**TIMES, **(environ or {})}.items()}
    settings["PYTHONPATH"] = f"{ROOT}{os.pathsep}{ROOT / 'clients' / 'python'}"
    async with AsyncExitStack() as stack:
        processes = stack.enter_context(Processes(directory / "agents"))
        running = await stack.enter_async_context(
            suite.started(
                data_dir=directory, ports=ports_of(services), environ=settings, services=services
            )
        )
        stage = Stage(running, processes, token)
        following = asyncio.create_task(stage.follow())
        try:
            yield stage
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await stage.leave()
            for channel in stage.channels.values():
                await channel.close()


@asynccontextmanager
async def network(stage: Stage) -> AsyncIterator[Proxy]:
    """A network of its own to the router, for one agent."""
    async with proxied(stage.suite.addresses["routing"]) as proxy:
        yield proxy


@asynccontextmanager
async def beating(wire: Caller, agent_id: str, *leases: Any) -> AsyncIterator[None]:
    """Sends heartbeats for an agent meanwhile, and renews leases, named by their Assign."""
    renew = session_pb2.Renew()
    for lease in leases:
        renew.leases.add(task_id=lease.task_id, lease_epoch=lease.lease_epoch)
    frames = [session_pb2.AgentFrame(agent_id=agent_id, heartbeat=session_pb2.Heartbeat())]
    if leases:
        frames.append(session_pb2.AgentFrame(agent_id=agent_id, renew=renew))

    async def beat() -> None:
        while True:
            await wire.send(*frames)
            await asyncio.sleep(0.2)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
