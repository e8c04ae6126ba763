"""A whole TaskScheduler to call, and a router to give its tasks to."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from podium.v1 import session_pb2, task_pb2, task_scheduler_pb2, task_scheduler_pb2_grpc
from services.kernel.clock import SystemClock
from services.kernel.errors import PodiumError
from services.kernel.inprocess import InProcessHub
from services.kernel.options import dial
from services.kernel.rpc import from_rpc_error
from services.kernel.serving import running
from services.task_scheduler.__main__ import SERVICE
from services.task_scheduler.config import Settings
from tests.support.waiting import eventually

WITHIN_S = 30.0
Report = task_scheduler_pb2.DispatchReport


class Served:
    """The service with a stub."""

    def __init__(self, channel: grpc.aio.Channel, assembled: Any, address: str = "") -> None:
        self.address = address
        """host:port where it listens, if it does."""
        self.channel = channel
        self.stub = task_scheduler_pb2_grpc.TaskSchedulerServiceStub(channel)
        self.assembled = assembled

    async def submit(self, *specs: task_pb2.TaskSpec, submitter_id: str = "") -> list[str]:
        request = task_scheduler_pb2.SubmitTasksRequest(tasks=specs, submitter_id=submitter_id)
        return list((await self.stub.SubmitTasks(request, timeout=WITHIN_S)).task_ids)

    async def get(self, task_id: str) -> task_pb2.Task:
        request = task_scheduler_pb2.GetTaskRequest(task_id=task_id)
        return (await self.stub.GetTask(request, timeout=WITHIN_S)).task

    async def run(self, router: Router, data: bytes = b"ok", **parts: Any) -> str:
        """Submit a task and let the router complete it."""
        task_id = (await self.submit(spec(**parts)))[0]
        await router.complete(await router.grant(), data)
        return task_id

    @asynccontextmanager
    async def router(
        self, *capabilities: str, router_id: str = "r1", held: Any = (), partition: int = 0
    ) -> AsyncIterator[Router]:
        call = self.stub.OpenDispatch()
        router = Router(call)
        hello = task_scheduler_pb2.DispatchHello(
            router_id=router_id, held=held, partition=partition
        )
        await router.say(Report(hello=hello))
        router.welcome = (await router.next("welcome")).welcome
        if capabilities:
            await router.credit(*capabilities)
        yield router
        call.cancel()


class Router:
    """What Routing does, by hand."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.welcome: Any = None
        self._orders: list[Any] = []

    async def say(self, *reports: Any) -> None:
        await self.call.write(task_scheduler_pb2.OpenDispatchRequest(reports=reports))

    async def credit(self, *capabilities: str, total: int = 1_000) -> None:
        credit = task_scheduler_pb2.ClassCredit(
            class_id=1, capabilities=capabilities, total=total, agent_count=1
        )
        await self.say(Report(credit=credit))

    async def next(self, which: str) -> Any:
        """Return the next order of this kind; others stay for later."""
        while True:
            for order in self._orders:
                if order.WhichOneof("order") == which:
                    self._orders.remove(order)
                    return order
            message = await self.call.read()
            assert message is not grpc.aio.EOF, "the stream has ended"
            self._orders += message.orders

    async def grant(self) -> Any:
        return (await self.next("grant")).grant

    async def start(self, grant: Any, agent_id: str = "a1", **decision: Any) -> None:
        started = task_scheduler_pb2.AttemptStarted(lease=lease(grant), agent_id=agent_id)
        started.decision.agent_id = agent_id
        started.decision.policy = "formula"
        await self.say(Report(started=started))

    async def complete(self, grant: Any, data: bytes = b"ok", agent_id: str = "a1") -> Any:
        await self.start(grant, agent_id)
        ended = task_scheduler_pb2.AttemptEnded(
            lease=lease(grant), agent_id=agent_id, success=task_pb2.Payload(data=data)
        )
        await self.say(Report(ended=ended))
        return (await self.next("settled")).settled

    async def fail(self, grant: Any, agent_id: str = "a1", *, retryable: bool = False) -> Any:
        await self.start(grant, agent_id)
        failure = task_pb2.Failure(reason="BAD_INPUT", message="no", retryable=retryable)
        ended = task_scheduler_pb2.AttemptEnded(
            lease=lease(grant), agent_id=agent_id, failure=failure
        )
        await self.say(Report(ended=ended))
        return (await self.next("settled")).settled


def spec(task_type: str = "work", **parts: Any) -> task_pb2.TaskSpec:
    parts.setdefault("payload", task_pb2.Payload(content_type="text/plain", data=b"data"))
    return task_pb2.TaskSpec(type=task_type, **parts)


def lease(grant: Any) -> session_pb2.LeaseRef:
    return session_pb2.LeaseRef(task_id=grant.task_id, lease_epoch=grant.lease_epoch)


def settings(data_dir: Path, **changed: Any) -> Settings:
    base = Settings(data_dir=data_dir, otlp_endpoint="off", reserve_bytes=4_096)
    return dataclasses.replace(base, **changed)


@asynccontextmanager
async def wire(data_dir: Path, **changed: Any) -> AsyncIterator[Served]:
    chosen = settings(data_dir, **changed)
    async with running(SERVICE, chosen, dial=dial, clock=SystemClock()) as service:
        address = f"127.0.0.1:{service.port}"
        channel = dial(address)
        await eventually(lambda: not service.assembled.ready())
        yield Served(channel, service.assembled, address)
        await channel.close()


@asynccontextmanager
async def in_process(data_dir: Path, **changed: Any) -> AsyncIterator[Served]:
    hub = InProcessHub()
    chosen = settings(data_dir, journal="memory", **changed)
    async with running(
        SERVICE, chosen, dial=hub.dial, clock=SystemClock(), hub=hub, port=None
    ) as service:
        await eventually(lambda: not service.assembled.ready())
        yield Served(hub.dial("anywhere"), service.assembled)


WAYS = {"wire": wire, "in_process": in_process}


async def refusal(call: Any) -> PodiumError:
    """Return the error a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return from_rpc_error(refused.value)
