"""The other side of Routing for its tests: a scheduler that does as told, and raw agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc.aio

from podium.v1 import (
    routing_pb2,
    routing_pb2_grpc,
    session_pb2,
    task_pb2,
    task_scheduler_pb2,
    task_scheduler_pb2_grpc,
)
from services.kernel.clock import SystemClock
from services.kernel.errors import PodiumError
from services.kernel.options import dial
from services.kernel.rpc import from_rpc_error
from services.kernel.serving import running
from services.routing.__main__ import SERVICE
from services.routing.config import Settings
from services.routing.core.session import Limits
from tests.support.waiting import eventually

ACCEPTED = session_pb2.ResultAck.VERDICT_ACCEPTED
FENCED = session_pb2.ResultAck.VERDICT_FENCED
KEEP = session_pb2.LeaseVerdict.VERDICT_KEEP
LOST = session_pb2.LeaseVerdict.VERDICT_LOST


class Patient(Settings):
    """Settings of a router that waits for the scheduler's word, and for no registry."""

    def limits(self) -> Limits:
        return replace(super().limits(), claim_s=60.0, registry_s=0.0, directive_s=60.0)


class Scheduler(task_scheduler_pb2_grpc.TaskSchedulerServiceServicer):
    """Grants what a test gives it as far as credits go, and remembers every report."""

    def __init__(self) -> None:
        self.reports: list[task_scheduler_pb2.DispatchReport] = []
        self.credits: dict[int, task_scheduler_pb2.ClassCredit] = {}
        self.settles = True
        self.refuses = False
        self.verdict = ACCEPTED
        self.claim_verdict = KEEP
        self.hello_verdict = KEEP
        self.streams = 0
        self.address = ""
        self._epochs = 0
        self._calls: list[Any] = []
        self._orders: asyncio.Queue[Any] | None = None

    @property
    def connected(self) -> bool:
        return self._orders is not None

    async def OpenDispatch(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        if self.refuses:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        orders: asyncio.Queue[Any] = asyncio.Queue()
        self.streams += 1

        async def read() -> None:
            async for request in requests:
                for report in request.reports:
                    self._take(report, orders)
            orders.put_nowait(None)

        reader = asyncio.create_task(read())
        try:
            while (order := await orders.get()) is not None:
                yield task_scheduler_pb2.OpenDispatchResponse(orders=[order])
        finally:
            if self._orders is orders:
                self._orders = None
            reader.cancel()

    def _take(self, report: Any, orders: asyncio.Queue[Any]) -> None:
        self.reports.append(report)
        kind = report.WhichOneof("report")
        order = task_scheduler_pb2.DispatchOrder()
        if kind == "hello":
            self.credits = {}
            order.welcome.lease_ttl.seconds = 30
            for lease in report.hello.held:
                order.welcome.verdicts.add(lease=lease, verdict=self.hello_verdict)
            self._orders = orders
        elif kind == "credit":
            self.credits[report.credit.class_id] = report.credit
            return
        elif kind == "ended" and self.settles:
            order.settled.lease.CopyFrom(report.ended.lease)
            order.settled.verdict = self.verdict
        elif kind == "claimed":
            order.verdicts.agent_id = report.claimed.agent_id
            for lease in report.claimed.leases:
                order.verdicts.verdicts.add(lease=lease, verdict=self.claim_verdict)
        else:
            return
        orders.put_nowait(order)

    def of_kind(self, kind: str) -> list[Any]:
        return [getattr(r, kind) for r in self.reports if r.WhichOneof("report") == kind]

    async def until(self, kind: str, count: int = 1, within_s: float = 10.0) -> list[Any]:
        return await eventually(
            lambda: found if len(found := self.of_kind(kind)) >= count else None,
            within_s=within_s,
            told=lambda: f"(reports: {[r.WhichOneof('report') for r in self.reports]})",
        )

    async def class_of(self, *capabilities: str) -> int:
        def found() -> int | None:
            for credit in self.credits.values():
                if sorted(capabilities) == list(credit.capabilities) and credit.total > 0:
                    return credit.class_id + 1
            return None

        return await eventually(found) - 1

    def break_off(self) -> None:
        """Ends the stream, as a scheduler that restarts does."""
        assert self._orders is not None
        self._orders.put_nowait(None)

    def send(self, order: task_scheduler_pb2.DispatchOrder) -> None:
        assert self._orders is not None
        self._orders.put_nowait(order)

    def grant(self, task_id: str, class_id: int, **given: Any) -> session_pb2.LeaseRef:
        self._epochs += 1
        order = task_scheduler_pb2.DispatchOrder()
        grant = order.grant
        grant.task_id, grant.lease_epoch, grant.attempt = task_id, self._epochs, 1
        grant.class_id = class_id
        spec = {"type": "echo", "payload": task_pb2.Payload(data=b"x"), **given}
        grant.excluded_agent_ids.extend(spec.pop("excluded", ()))
        grant.spec.CopyFrom(task_pb2.TaskSpec(**spec))
        grant.queue_time.GetCurrentTime()
        self.send(order)
        return session_pb2.LeaseRef(task_id=task_id, lease_epoch=self._epochs)

    def revoke(self, lease: session_pb2.LeaseRef, reason: str) -> None:
        order = task_scheduler_pb2.DispatchOrder()
        order.revoke.lease.CopyFrom(lease)
        order.revoke.reason = reason
        self.send(order)


class Wire:
    """One stream to Routing, of one agent or of many."""

    def __init__(
        self, channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...] = ()
    ) -> None:
        stub = routing_pb2_grpc.RoutingServiceStub(channel)
        self.call: Any = stub.OpenSession(metadata=metadata)
        self.frames: list[session_pb2.RouterFrame] = []
        self._reader = asyncio.create_task(self._read())
        self._writing = asyncio.Lock()
        self.reading = asyncio.Event()
        self.reading.set()

    async def _read(self) -> None:
        while True:
            await self.reading.wait()
            response = await self.call.read()
            if response is grpc.aio.EOF:
                return
            self.frames.extend(response.frames)
            await self.received(response.frames)

    async def received(self, frames: Any) -> None:
        """Does what the agents do at once with frames that came; nothing here."""

    async def send(self, *frames: session_pb2.AgentFrame) -> None:
        async with self._writing:
            await self.call.write(routing_pb2.OpenSessionRequest(frames=frames))

    async def say_hello(self, agent_id: str, *capabilities: str, **given: Any) -> None:
        said = session_pb2.Hello(**{"instance_id": f"{agent_id}-1", "max_concurrency": 1, **given})
        for name in capabilities or ("echo",):
            said.capabilities.add(name=name)
        await self.send(session_pb2.AgentFrame(agent_id=agent_id, hello=said))

    async def hello(self, agent_id: str, *capabilities: str, **given: Any) -> session_pb2.Ready:
        before = len(self.of(agent_id, "ready"))
        await self.say_hello(agent_id, *capabilities, **given)
        return (await self.until(agent_id, "ready", before + 1))[-1]

    def of(self, agent_id: str, kind: str) -> list[Any]:
        return [
            getattr(frame, kind)
            for frame in self.frames
            if frame.agent_id == agent_id and frame.WhichOneof("frame") == kind
        ]

    async def until(self, agent_id: str, kind: str, count: int = 1) -> list[Any]:
        def found() -> list[Any] | None:
            frames = self.of(agent_id, kind)
            return frames if len(frames) >= count else None

        return await eventually(found, told=lambda: f"(frames: {self.frames})")

    async def ack(self, agent_id: str, lease: Any) -> None:
        frame = session_pb2.AgentFrame(agent_id=agent_id)
        frame.ack.lease.task_id, frame.ack.lease.lease_epoch = lease.task_id, lease.lease_epoch
        await self.send(frame)

    async def result(self, agent_id: str, lease: Any, data: bytes = b"done") -> None:
        frame = session_pb2.AgentFrame(agent_id=agent_id)
        frame.result.lease.task_id = lease.task_id
        frame.result.lease.lease_epoch = lease.lease_epoch
        frame.result.success.data = data
        await self.send(frame)

    async def ended(self) -> PodiumError:
        """Returns the error that the stream ended with."""
        try:
            async with asyncio.timeout(10):
                await self._reader
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error)
        raise AssertionError(f"the stream ended with {await self.call.code()}")

    async def drop(self) -> None:
        """Break the stream off, as a dead connection would."""
        self.call.cancel()
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)


class Room:
    """Routing with its peers."""

    def __init__(self, scheduler: Scheduler, routing: Any, channel: grpc.aio.Channel) -> None:
        self.scheduler = scheduler
        self.routing = routing
        self.channel = channel
        self.stub = routing_pb2_grpc.RoutingServiceStub(channel)
        self.wires: list[Wire] = []

    def wire(self, token: str = "") -> Wire:
        wire = Wire(self.channel, (("authorization", f"Bearer {token}"),) if token else ())
        self.wires.append(wire)
        return wire


@asynccontextmanager
async def served(servicer: Scheduler, port: int = 0) -> AsyncIterator[int]:
    server = grpc.aio.server()
    task_scheduler_pb2_grpc.add_TaskSchedulerServiceServicer_to_server(servicer, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(0)


@asynccontextmanager
async def room(**settings: Any) -> AsyncIterator[Room]:
    scheduler = Scheduler()
    async with AsyncExitStack() as stack:
        scheduler.address = f"127.0.0.1:{await stack.enter_async_context(served(scheduler))}"
        chosen = Patient(
            task_scheduler_address=scheduler.address,
            **{
                "agent_registry_address": "127.0.0.1:1",
                "ml_router_address": "127.0.0.1:1",
                "otlp_endpoint": "off",
                "metrics_port_offset": 0,
                # What a test lets lie goes back by no clock, however slow the machine is.
                "ack_s": 60.0,
                **settings,
            },
        )
        routing = await stack.enter_async_context(
            running(SERVICE, chosen, dial=dial, clock=SystemClock())
        )
        channel = dial(f"127.0.0.1:{routing.port}")
        stack.push_async_callback(channel.close)
        made = Room(scheduler, routing, channel)
        # The scheduler has its Hello before Routing has the answer to it; until then an agent's
        # leases are kept unasked.
        await eventually(lambda: not routing.assembled.ready())
        yield made
        for wire in made.wires:
            await wire.drop()
