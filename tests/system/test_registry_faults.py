"""What the Redis of the registries may suffer, and what neither tasks nor operators notice."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from podium.v1 import agent_pb2, agent_registry_pb2, agent_registry_pb2_grpc
from services.kernel.errors import Unavailable
from services.kernel.options import dial
from tests.agent_registry.test_replicas import index_of
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.redis import Watched, watched
from tests.support.waiting import eventually
from tests.system.stage import Stage, staged

pytestmark = pytest.mark.asyncio(loop_scope="module")

WHOLE = ["CREATED", "QUEUED", "ASSIGNED", "STARTED", "COMPLETED"]
THERE = (agent_pb2.Agent.STATUS_IDLE, agent_pb2.Agent.STATUS_BUSY)
WORKERS = {"here": ("flow", "read"), "there": ("flow", "write")}
UNION = {"flow": {"here", "there"}, "read": {"here"}, "write": {"there"}}
GRACE_S = 6.0
FLOW_LEN = 25
"""Tasks that end between a fault and the next look."""


class Hall:
    """Two registries on one Redis, a router at each, and an agent at each router."""

    def __init__(self, stage: Stage, redis: Watched, registries: list[Any]) -> None:
        self.stage = stage
        self.redis = redis
        self.registries = registries
        self.submitted: list[str] = []
        self.ending: list[Process] = []
        """The second registry and the router at it."""

    async def views(self) -> list[Any]:
        """Returns who is there and who can do what, as each registry tells."""
        return [await _view(each) for each in self.registries]

    async def whole(self) -> bool:
        """Returns whether all registries and Redis know all agents and what they can do."""
        try:
            index = await index_of(self.redis.url)
        except Unavailable:
            return False  # no primary yet
        return index == UNION and all(
            found == UNION and set(listed) == set(WORKERS) for listed, found in await self.views()
        )

    async def flow(self) -> None:
        """Waits until so many more tasks have been submitted and have ended."""
        start = len(self.submitted)
        await eventually(lambda: len(self.submitted) >= start + FLOW_LEN)
        await self.stage.ended(*self.submitted[start : start + FLOW_LEN])


async def _view(registry: Any) -> tuple[dict[str, str], dict[str, set[str]]]:
    listed = (await registry.ListAgents(agent_registry_pb2.ListAgentsRequest())).agents
    found = {}
    for name in UNION:
        request = agent_registry_pb2.FindAgentsRequest(capabilities=[name])
        candidates = (await registry.FindAgents(request)).candidates
        found[name] = {each.agent.agent_id for each in candidates}
    return {each.agent_id: each.router_id for each in listed if each.status in THERE}, found


@pytest.fixture(scope="module")
def redis() -> Iterator[Watched]:
    with watched() as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hall(redis: Watched, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hall]:
    shared = {
        "PODIUM_AGENT_REGISTRY_STORE": "redis",
        "PODIUM_REDIS_URL": redis.url,
        "PODIUM_LEASE_TTL_S": 15,  # what is requeued here is requeued by mistake
        "PODIUM_ACK_TIMEOUT_S": 10,
        "PODIUM_HEARTBEAT_S": 1.0,
        "PODIUM_AGENT_GRACE_S": GRACE_S,
    }
    async with staged(tmp_path_factory.mktemp("hall"), environ=shared) as stage:
        port = str(free_port())
        second = {
            **stage.suite.environ,
            "PODIUM_AGENT_REGISTRY_PORT": port,
            "PODIUM_AGENT_REGISTRY_ADDRESS": f"127.0.0.1:{port}",
        }
        process = stage.processes.python("-m", "services.agent_registry", environ=second)
        ending = [process]
        await asyncio.to_thread(process.wait_for, "podium agent_registry listening")
        stage.suite.environ["PODIUM_AGENT_REGISTRY_ADDRESS"] = f"127.0.0.1:{port}"
        router, address = await stage.another_router()
        ending.append(router)
        await stage.worked("here", *WORKERS["here"], capacity=4)
        await stage.worked("there", *WORKERS["there"], routing=address, capacity=4)
        async with _channel(f"127.0.0.1:{port}") as other:
            hall = Hall(stage, redis, [stage.registry, other])
            hall.ending = ending
            await eventually(hall.whole)
            yield hall


@asynccontextmanager
async def _channel(address: str) -> AsyncIterator[Any]:
    channel = dial(address)
    try:
        yield agent_registry_pb2_grpc.AgentRegistryServiceStub(channel)
    finally:
        await channel.close()


@asynccontextmanager
async def flowing(hall: Hall) -> AsyncIterator[None]:
    """Submits tasks meanwhile, and in the end sees that each was done once, at the first try."""
    hall.submitted.clear()

    async def submit() -> None:
        while True:
            hall.submitted += await hall.stage.submit("flow", "sleep 0.02", "sleep 0.02")
            await asyncio.sleep(0.04)

    submitting = asyncio.create_task(submit())
    try:
        yield
    finally:
        submitting.cancel()
        await asyncio.gather(submitting, return_exceptions=True)
    await hall.stage.ended(*hall.submitted)
    for task_id in hall.submitted:
        assert await hall.stage.story(task_id) == WHOLE


async def flushed(hall: Hall) -> None:
    hall.redis.primary.flush()


async def restarted(hall: Hall) -> None:
    await asyncio.to_thread(hall.redis.primary.stop)
    await hall.flow()  # nothing waits for Redis
    await asyncio.to_thread(hall.redis.primary.start)


async def paused(hall: Hall) -> None:
    """Redis stands still for longer than the grace of an agent: nobody is blamed for it."""
    quiet: list[Any] = []
    hall.redis.primary.send(signal.SIGSTOP)
    async with asyncio.TaskGroup() as group:
        told = [group.create_task(_told(each, quiet)) for each in hall.registries]
        await hall.flow()
        await asyncio.sleep(GRACE_S + 2.0)
        await hall.flow()
        for each in told:
            each.cancel()
    hall.redis.primary.send(signal.SIGCONT)
    assert quiet and agent_pb2.Agent.STATUS_OFFLINE not in quiet


async def switched(hall: Hall) -> None:
    await eventually(hall.redis.in_step)
    await asyncio.to_thread(hall.redis.switch)
    await eventually(hall.redis.settled)
    hall.redis.primary.flush()  # what is found there later, the registries wrote to it


async def _told(registry: Any, statuses: list[Any]) -> None:
    async for batch in registry.WatchAgents(agent_registry_pb2.WatchAgentsRequest()):
        statuses += [each.status for each in batch.agents]


async def failed_over(hall: Hall) -> None:
    await eventually(hall.redis.in_step)
    await asyncio.to_thread(hall.redis.fail_over)
    await eventually(hall.redis.promoted)
    hall.redis.replica.flush()  # what is found there later, the registries wrote to it


@pytest.mark.parametrize("fault", [flushed, paused, restarted, switched, failed_over])
async def test_f27_whatever_redis_suffers_no_task_and_no_agent_is_lost(
    hall: Hall, fault: Callable[[Hall], Awaitable[None]]
) -> None:
    before = await hall.views()
    assert before[0] == before[1]

    async with flowing(hall):
        await hall.flow()
        await fault(hall)
        await hall.flow()
        await eventually(hall.whole, within_s=30.0)

    assert await hall.views() == before


async def test_agents_whose_router_and_registry_are_killed_are_offline_after_their_grace(
    hall: Hall,
) -> None:
    for process in hall.ending:
        process.kill()
    await hall.stage.until_status("there", "OFFLINE", within_s=GRACE_S + 10.0)

    # The other agent goes on, and is the only one that is offered work.
    assert await hall.stage.status("here") in ("IDLE", "BUSY")
    listed, found = await _view(hall.registries[0])
    assert set(listed) == found["flow"] == {"here"}
    task_id = await hall.stage.submit_one("flow", "sleep 0")
    assert (await hall.stage.ended(task_id)).result.data == b"here 1"
