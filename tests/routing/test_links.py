"""The links to the registry and to the model, whose absence costs quality and never progress."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest

from podium.v1 import (
    agent_pb2,
    agent_registry_pb2,
    agent_registry_pb2_grpc,
    ml_router_pb2,
    ml_router_pb2_grpc,
)
from services.kernel.clock import ManualClock
from services.kernel.errors import Unavailable
from services.routing.core.model import RawModel
from services.routing.loops import backoff_s_max, keep_link
from tests.routing.floor import raw_model
from tests.routing.peers import room
from tests.support.waiting import eventually


class Registry(agent_registry_pb2_grpc.AgentRegistryServiceServicer):
    """Remembers the facts it is told, and gives directives and answers as told."""

    def __init__(self) -> None:
        self.facts: list[agent_registry_pb2.SyncSessionsRequest] = []
        self.directives: asyncio.Queue[Any] = asyncio.Queue()

    async def SyncSessions(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        async def read() -> None:
            async for request in requests:
                self.facts.append(request)

        reader = asyncio.create_task(read())
        try:
            while (directive := await self.directives.get()) is not None:
                if isinstance(directive, int):
                    yield agent_registry_pb2.SyncSessionsResponse(answer=directive)
                else:
                    yield agent_registry_pb2.SyncSessionsResponse(directives=[directive])
        finally:
            reader.cancel()


class Teacher(ml_router_pb2_grpc.MLRouterServiceServicer):
    """Sends models as told."""

    def __init__(self) -> None:
        self.models: asyncio.Queue[Any] = asyncio.Queue()

    async def WatchModel(self, request: Any, context: Any) -> AsyncIterator[Any]:
        while (snapshot := await self.models.get()) is not None:
            yield ml_router_pb2.WatchModelResponse(snapshot=snapshot)


@asynccontextmanager
async def peers() -> AsyncIterator[tuple[Registry, Teacher, str]]:
    registry, teacher = Registry(), Teacher()
    server = grpc.aio.server()
    agent_registry_pb2_grpc.add_AgentRegistryServiceServicer_to_server(registry, server)
    ml_router_pb2_grpc.add_MLRouterServiceServicer_to_server(teacher, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield registry, teacher, f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


def snapshot(raw: RawModel) -> ml_router_pb2.ModelSnapshot:
    message = ml_router_pb2.ModelSnapshot(
        model_version=raw.version,
        mode=ml_router_pb2.Mode.MODE_LIVE,
        agent_ids=raw.agent_ids,
        task_types=raw.task_types,
        success_means=raw.success_means,
        success_deviations=raw.success_deviations,
        service_ms=raw.service_ms,
        evidence=raw.evidence,
        fleet_success=raw.fleet_success,
        fleet_service_ms=raw.fleet_service_ms,
        default_success=raw.default_success,
        default_service_ms=raw.default_service_ms,
        retry_penalty_ms=raw.retry_penalty_ms,
        checksum=raw.checksum,
    )
    message.push_interval.FromSeconds(60)
    return message


async def test_the_registry_hears_of_sessions_and_outcomes_and_is_obeyed() -> None:
    async with (
        peers() as (registry, _, address),
        room(agent_registry_address=address, detach_grace_s=0.2) as here,
    ):
        await eventually(lambda: registry.facts)
        wire = here.wire()
        await wire.hello("a1", max_concurrency=2, labels={"zone": "x"})
        lease = here.scheduler.grant("t1", await here.scheduler.class_of("echo"))
        await wire.until("a1", "assign")
        await wire.result("a1", lease)
        await eventually(lambda: [o for f in registry.facts for o in f.outcomes])

        assert registry.facts[0].snapshot
        [opened] = [a for f in registry.facts for a in f.opened]
        assert (opened.agent_id, opened.max_concurrency) == ("a1", 2)
        assert opened.labels["zone"] == "x" and opened.transport == "grpc"
        [outcome] = [o for f in registry.facts for o in f.outcomes]
        assert outcome.kind == agent_registry_pb2.AttemptOutcome.KIND_SUCCEEDED
        await eventually(lambda: [a for f in registry.facts for a in f.alive])

        registry.directives.put_nowait(
            agent_registry_pb2.AgentDirective(agent_id="a1", breaker=agent_pb2.Agent.BREAKER_OPEN)
        )
        await eventually(lambda: [c for c in here.scheduler.credits.values() if c.total == 1])
        await wire.drop()
        await eventually(lambda: [c for f in registry.facts for c in f.closed])


async def test_a_registry_that_comes_back_gets_a_snapshot_of_all_sessions() -> None:
    async with (
        peers() as (registry, _, address),
        room(agent_registry_address=address) as here,
    ):
        await eventually(lambda: registry.facts)
        wire = here.wire()
        await wire.hello("a1")
        await wire.hello("a2")

        registry.directives.put_nowait(None)
        await eventually(lambda: len([f for f in registry.facts if f.snapshot]) == 2)

        again = [f for f in registry.facts if f.snapshot][1]
        assert {agent.agent_id for agent in again.opened} == {"a1", "a2"}


async def test_an_agent_that_comes_gets_work_once_the_registry_has_answered() -> None:
    async with (
        peers() as (registry, _, address),
        room(agent_registry_address=address) as here,
    ):
        [first] = await eventually(lambda: registry.facts)
        assert first.snapshot and first.ask > 0
        registry.directives.put_nowait(first.ask)
        wire = here.wire()
        await wire.hello("a1")

        [asked] = await eventually(lambda: [f for f in registry.facts if f.opened])
        assert asked.ask > first.ask
        assert not [credit for credit in here.scheduler.credits.values() if credit.total]
        registry.directives.put_nowait(asked.ask)
        here.scheduler.grant("t1", await here.scheduler.class_of("echo"))

        await wire.until("a1", "assign")


async def test_a_model_is_used_and_a_broken_one_is_not() -> None:
    async with (
        peers() as (_, teacher, address),
        room(ml_router_address=address) as here,
    ):
        raw = raw_model(["a1"], ["echo"])
        broken = snapshot(raw)
        broken.model_version, broken.checksum = "v2", b"broken"
        wire = here.wire()
        await wire.hello("a1", max_concurrency=1_000)
        class_id = await here.scheduler.class_of("echo")

        async def version() -> str:
            before = len(here.scheduler.of_kind("started"))
            here.scheduler.grant(f"t{before}", class_id)
            await wire.until("a1", "assign", before + 1)
            await wire.ack("a1", wire.of("a1", "assign")[-1])
            return str(
                (await here.scheduler.until("started", before + 1))[-1].decision.model_version
            )

        assert await version() == ""
        teacher.models.put_nowait(snapshot(raw))

        async def learned() -> bool:
            return await version() == "v1"

        await eventually(learned)
        teacher.models.put_nowait(broken)
        assert await version() == "v1"
        decision = here.scheduler.of_kind("started")[-1].decision
        assert decision.policy == "learned"
        assert list(decision.success_probabilities) == pytest.approx([0.9])


class Broken:
    """A link that cannot be held."""

    peer = "Nobody"

    def __init__(self) -> None:
        self.tries = 0

    async def serve(self) -> None:
        self.tries += 1
        raise Unavailable("NOT_HERE", "Nobody is there.")


async def test_give_up_reconnect_a_link_is_tried_for_ever_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, link = ManualClock(), Broken()
    keeper = asyncio.create_task(keep_link(link, "Nobody at x:1 (PODIUM_X)", clock, lambda: 1.0))

    await clock.advance(3600)

    assert link.tries > 3600 / backoff_s_max - 10
    assert link.tries < 3600 / backoff_s_max + 20
    [told] = caplog.messages
    assert told.startswith("Nobody at x:1 (PODIUM_X) is not reached, trying again")
    keeper.cancel()
    await asyncio.gather(keeper, return_exceptions=True)


class Deaf:
    """A link that ends when it is cancelled, as if it had ended by itself."""

    peer = "Nobody"

    def __init__(self) -> None:
        self.held = asyncio.Event()

    async def serve(self) -> None:
        self.held.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()


async def test_a_link_that_keeps_a_cancel_to_itself_is_not_held_again() -> None:
    link = Deaf()
    keeper = asyncio.create_task(keep_link(link, "Nobody", ManualClock(), lambda: 0.0))
    await link.held.wait()

    keeper.cancel()
    # Its pause between two tries is never over: the clock stands.
    done, _ = await asyncio.wait([keeper], timeout=5.0)

    assert done


async def test_the_registry_ends_an_instance_whose_agent_has_a_newer_one_elsewhere() -> None:
    async with peers() as (registry, _, address), room(agent_registry_address=address) as here:
        await eventually(lambda: registry.facts)
        wire = here.wire()
        await wire.hello("a1", instance_id="one")
        [opened] = await eventually(lambda: [a for f in registry.facts for a in f.opened])
        registry.directives.put_nowait(
            agent_registry_pb2.AgentDirective(
                agent_id="a1", instance_id="two", superseded_instance_ids=["one"]
            )
        )

        [superseded] = await wire.until("a1", "superseded")
        [closed] = await eventually(lambda: [c for f in registry.facts for c in f.closed])

        assert superseded.instance_id == "two"
        assert opened.HasField("session_age") and not closed.orderly
