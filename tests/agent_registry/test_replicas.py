"""Several registries on one real Redis: one view, whichever is asked, whatever becomes of Redis."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from podium.v1 import agent_pb2, agent_registry_pb2
from services.agent_registry.__main__ import SERVICE
from services.agent_registry.adapters import redis as adapter
from services.agent_registry.config import Settings
from services.kernel import names
from services.kernel.clock import SystemClock
from services.kernel.options import dial
from services.kernel.serving import running
from tests.agent_registry.test_servicer import Router, Stub, agent
from tests.support.redis import Server, server
from tests.support.waiting import eventually

pb = agent_registry_pb2
IDLE = agent_pb2.Agent.STATUS_IDLE
SUSPECT = agent_pb2.Agent.STATUS_SUSPECT
OFFLINE = agent_pb2.Agent.STATUS_OFFLINE
FAILED = pb.AttemptOutcome.KIND_FAILED
SUCCEEDED = pb.AttemptOutcome.KIND_SUCCEEDED


class Floor:
    """Registries that share a Redis, and the routers that are connected to them."""

    def __init__(self, redis: Server, stack: AsyncExitStack) -> None:
        self.redis = redis
        self.stack = stack
        self.metrics: list[Any] = []
        self.settings = Settings(
            otlp_endpoint="off",
            metrics_port_offset=0,
            store="redis",
            redis_url=redis.url,
            grace_s=3.0,
            heartbeat_s=0.7,
        )

    async def registry(self) -> tuple[Any, AsyncExitStack]:
        """Starts one more; ending its stack stops it."""
        own = await self.stack.enter_async_context(AsyncExitStack())
        service = await own.enter_async_context(
            running(SERVICE, self.settings, dial=dial, clock=SystemClock())
        )
        self.metrics.append(service.assembled.telemetry.registry)
        channel = dial(f"127.0.0.1:{service.port}")
        own.push_async_callback(channel.close)
        return Stub(channel), own

    async def router(self, stub: Any, router_id: str, *agents: agent_pb2.Agent) -> Router:
        """Connects a router with sessions."""
        router = Router(stub)
        self.stack.push_async_callback(router.close)
        await router.tell(router_id, snapshot=True, opened=agents)
        for each in agents:
            await known(stub, each.agent_id)
        return router


@pytest.fixture
def redis() -> Iterator[Server]:
    with server() as started:
        yield started


@pytest.fixture
async def floor(redis: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Floor]:
    monkeypatch.setattr(adapter, "COMMAND_S", 1.3)  # a Redis that stands still is noticed soon
    stack = AsyncExitStack()
    yield Floor(redis, stack)
    async with asyncio.timeout(20):
        await stack.aclose()


async def view(stub: Any) -> dict[str, agent_pb2.Agent]:
    listed = await stub.ListAgents(pb.ListAgentsRequest())
    return {each.agent_id: each for each in listed.agents}


async def known(stub: Any, agent_id: str, status: Any = IDLE) -> agent_pb2.Agent:
    """Waits until a registry has an agent with a status."""

    async def found() -> agent_pb2.Agent | None:
        there = (await view(stub)).get(agent_id)
        return there if there is not None and there.status == status else None

    return await eventually(found)


async def index_of(url: str) -> dict[str, set[str]]:
    """Returns who is kept for each capability, as Redis has it."""
    store = adapter.RedisStore(url)
    try:
        kept = {each.facts.agent_id: each.facts.capabilities for each in await store.load()}
        names = {name for capabilities in kept.values() for name in capabilities}
        found = {name: await store.having([name]) for name in names}
    finally:
        await store.close()
    assert found == {name: {a for a in kept if name in kept[a]} for name in names}
    return found


def failed(agent_id: str, task_id: str, kind: Any = FAILED) -> Any:
    return pb.AttemptOutcome(agent_id=agent_id, task_id=task_id, task_type="echo", kind=kind)


async def test_an_agent_is_known_to_every_registry_whichever_its_router_is_connected_to(
    floor: Floor,
) -> None:
    one, _ = await floor.registry()
    other, _ = await floor.registry()
    skilled = agent("a1", labels={"zone": "x"}, max_concurrency=3)
    skilled.capabilities[0].version, skilled.capabilities[0].proficiency = "2.1", 0.7
    router = await floor.router(one, "r1", skilled)
    await router.tell(outcomes=[failed("a1", "t1", SUCCEEDED)], alive=[{"agent_id": "a1"}])

    there = await known(other, "a1")
    assert (there.router_id, there.max_concurrency) == ("r1", 3)
    assert (there.capabilities[0].version, there.capabilities[0].proficiency) == ("2.1", 0.7)
    await eventually(lambda: counted(other, "a1", completed=1))
    late, _ = await floor.registry()
    assert (await known(late, "a1")).statistics[0].completed_count == 1

    await router.close()
    assert (await known(other, "a1", SUSPECT)).router_id == ""
    await known(other, "a1", OFFLINE)


async def counted(stub: Any, agent_id: str, completed: int) -> bool:
    numbers = (await view(stub))[agent_id].statistics
    return bool(numbers) and numbers[0].completed_count == completed


async def test_what_an_operator_asks_of_any_registry_reaches_the_agents_router(
    floor: Floor,
) -> None:
    one, _ = await floor.registry()
    other, _ = await floor.registry()
    router = await floor.router(one, "r1", agent("a1", labels={"zone": "x"}), agent("a2"))
    await known(other, "a2")

    await other.QuarantineAgent(pb.QuarantineAgentRequest(agent_id="a2", reason="odd answers"))
    await eventually(lambda: [d for d in router.directives if d.quarantined])
    await other.ReleaseAgent(pb.ReleaseAgentRequest(agent_id="a2"))
    await eventually(lambda: not router.directives[-1].quarantined)
    zone = pb.AgentFilter(labels={"zone": "x"})
    drained = await other.DrainAgents(pb.DrainAgentsRequest(filter=zone))

    assert list(drained.agent_ids) == ["a1"]
    await eventually(lambda: [d for d in router.directives if d.draining])
    assert {d.agent_id for d in router.directives if d.draining} == {"a1"}
    assert (await known(one, "a1", agent_pb2.Agent.STATUS_DRAINING)).status_reason


async def test_what_is_asked_while_the_home_of_an_agent_is_away_is_not_undone_by_its_return(
    floor: Floor,
) -> None:
    one, ends = await floor.registry()
    other, _ = await floor.registry()
    agents = [agent(agent_id) for agent_id in ("back", "bad", "leaving", "renamed")]
    router = await floor.router(one, "r1", *agents)
    await one.QuarantineAgent(pb.QuarantineAgentRequest(agent_id="back"))
    await known(other, "renamed")
    await eventually(lambda: reasoned(other, "back"))
    await router.close()
    await ends.aclose()

    await other.ReleaseAgent(pb.ReleaseAgentRequest(agent_id="back"))
    await other.QuarantineAgent(pb.QuarantineAgentRequest(agent_id="bad", reason="odd answers"))
    await other.DrainAgents(pb.DrainAgentsRequest(agent_id="leaving"))
    renamed = agent_pb2.Agent(agent_id="renamed", name="Ann")
    await other.UpdateAgent(pb.UpdateAgentRequest(agent=renamed))
    back, _ = await floor.registry()
    again = Router(back)
    floor.stack.push_async_callback(again.close)
    await again.tell("r1", snapshot=True, opened=agents)

    for stub in (back, other, (await floor.registry())[0]):
        await known(stub, "back")
        await known(stub, "bad", agent_pb2.Agent.STATUS_QUARANTINED)
        await known(stub, "leaving", agent_pb2.Agent.STATUS_DRAINING)
        assert (await known(stub, "renamed")).name == "Ann"
    told = {each.agent_id: each for each in again.directives}
    assert told["bad"].quarantined and told["leaving"].draining


async def reasoned(stub: Any, agent_id: str) -> bool:
    return bool((await view(stub))[agent_id].status_reason)


async def test_a_task_that_fails_everywhere_is_held_against_no_agent_of_any_registry(
    floor: Floor,
) -> None:
    one, _ = await floor.registry()
    other, _ = await floor.registry()
    here = await floor.router(one, "r1", agent("a1"))
    there = await floor.router(other, "r2", agent("b1"))
    poison = [f"poison-{number}" for number in range(6)]
    await here.tell(outcomes=[failed("a1", task) for task in poison])
    await eventually(lambda: [d for d in here.directives if d.breaker != CLOSED])

    await there.tell(outcomes=[failed("b1", task) for task in poison])

    await eventually(lambda: here.directives[-1].breaker == CLOSED)
    assert (await known(other, "b1")).breaker == CLOSED
    await eventually(lambda: breaker_of(other, "a1", CLOSED))


CLOSED = agent_pb2.Agent.BREAKER_CLOSED


async def breaker_of(stub: Any, agent_id: str, wanted: Any) -> bool:
    there = (await view(stub)).get(agent_id)
    return there is not None and bool(there.breaker == wanted)


async def test_a_registry_that_ends_leaves_its_agents_and_their_breakers_to_the_next(
    floor: Floor,
) -> None:
    one, ends = await floor.registry()
    other, _ = await floor.registry()
    router = await floor.router(one, "r1", agent("a1"), agent("a2"))
    await router.tell(outcomes=[failed("a1", f"t-{number}") for number in range(6)])
    await eventually(lambda: breaker_of(other, "a1", agent_pb2.Agent.BREAKER_OPEN))

    moved = Router(other)
    floor.stack.push_async_callback(moved.close)
    await moved.tell("r1", snapshot=True, opened=[agent("a1"), agent("a2")])
    await router.close()
    await ends.aclose()

    await eventually(lambda: moved.directives)
    assert moved.directives[0].agent_id == "a1"
    assert moved.directives[0].breaker in (
        agent_pb2.Agent.BREAKER_OPEN,
        agent_pb2.Agent.BREAKER_HALF_OPEN,
    )
    third, _ = await floor.registry()
    assert (await known(third, "a2")).router_id == "r1"
    assert (await known(other, "a2")).router_id == "r1"


async def test_f27_a_redis_that_is_flushed_or_restarted_is_rebuilt_from_what_is_known(
    floor: Floor,
) -> None:
    one, _ = await floor.registry()
    other, _ = await floor.registry()
    here = await floor.router(one, "r1", agent("a1", "read"), agent("a2", "read", "write"))
    await floor.router(other, "r2", agent("b1", "write"))
    await other.RegisterAgent(pb.RegisterAgentRequest(agent=agent("c1", "write")))
    await other.QuarantineAgent(pb.QuarantineAgentRequest(agent_id="c1", reason="odd answers"))
    union = {"read": {"a1", "a2"}, "write": {"a2", "b1", "c1"}}
    await eventually(lambda: rebuilt(floor, union))

    floor.redis.flush()
    await eventually(lambda: rebuilt(floor, union))

    floor.redis.stop(signal.SIGKILL)
    await here.tell(opened=[agent("a3", "read")])
    await known(one, "a3")  # nothing waits for Redis
    floor.redis.start()
    await eventually(lambda: rebuilt(floor, {**union, "read": {"a1", "a2", "a3"}}))

    late, _ = await floor.registry()
    assert (await known(late, "a3")).router_id == "r1"
    assert (await view(late))["c1"].status_reason == "odd answers"


async def rebuilt(floor: Floor, wanted: dict[str, set[str]]) -> bool:
    return await index_of(floor.redis.url) == wanted


async def test_f27_while_redis_stands_still_no_agent_is_held_lost_for_it(floor: Floor) -> None:
    one, _ = await floor.registry()
    other, _ = await floor.registry()
    router = await floor.router(one, "r1", agent("a1"))
    await known(other, "a1")

    floor.redis.send(signal.SIGSTOP)
    quiet = Watch(other)
    floor.stack.push_async_callback(quiet.close)
    for _ in range(8):  # twice the grace of an agent
        await router.tell(alive=[{"agent_id": "a1"}])
        await SystemClock().sleep(0.7)
    floor.redis.send(signal.SIGCONT)

    assert quiet.statuses and set(quiet.statuses) <= {IDLE, SUSPECT}
    await router.tell(alive=[{"agent_id": "a1"}])
    assert (await known(other, "a1")).router_id == "r1"


async def test_the_gauges_of_all_registries_together_count_each_agent_once(floor: Floor) -> None:
    one, _ = await floor.registry()
    other, _ = await floor.registry()
    await floor.router(one, "r1", agent("a1"), agent("a2"))
    await floor.router(other, "r2", agent("b1"))
    for stub in (one, other):
        for agent_id in ("a1", "a2", "b1"):
            await known(stub, agent_id)

    def counted(name: str, **labels: str) -> list[float]:
        return [each.get_sample_value(name, labels) for each in floor.metrics]

    assert counted(names.metric_agents, status="idle") == [2, 1]
    assert counted(names.metric_breakers, state="closed") == [2, 1]


async def test_agents_that_die_with_their_registry_are_counted_by_one_that_is_left(
    floor: Floor,
) -> None:
    one, _ = await floor.registry()
    other, ends = await floor.registry()
    await floor.registry()
    router = await floor.router(other, "r1", agent("a1"), agent("a2"))
    await known(one, "a2")
    await router.close()
    await ends.aclose()
    living = [floor.metrics[0], floor.metrics[2]]

    def offline() -> float:
        values = (each.get_sample_value(names.metric_agents, OFF) for each in living)
        return sum(value or 0.0 for value in values)

    await known(one, "a1", OFFLINE)
    await eventually(lambda: offline() == 2)
    late, _ = await floor.registry()
    await known(late, "a1", OFFLINE)
    living.append(floor.metrics[3])
    # Both may speak for them at first, the new one before it has read that another does.
    await eventually(lambda: offline() == 2)


OFF = {"status": "offline"}


class Watch:
    """Notes every status that a registry tells of its agents."""

    def __init__(self, stub: Any) -> None:
        self.statuses: list[Any] = []
        self._call = stub.WatchAgents(pb.WatchAgentsRequest())

        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for batch in self._call:
            self.statuses.extend(each.status for each in batch.agents)

    async def close(self) -> None:
        self._call.cancel()
        self._reader.cancel()


async def test_dup_agent_id_routers_of_two_registries_learn_which_instance_stays(
    floor: Floor,
) -> None:
    one, _ = await floor.registry()
    other, _ = await floor.registry()
    first = await floor.router(one, "r1", agent("a1"))
    await known(other, "a1")
    newer = agent("a1")
    newer.instance_id = "i2"
    second = await floor.router(other, "r2", newer)

    for router in (first, second):
        directive = (await eventually(lambda r=router: r.directives))[-1]
        assert (directive.instance_id, list(directive.superseded_instance_ids)) == ("i2", ["i1"])
    for stub in (one, other):

        async def moved(stub: Any = stub) -> bool:
            return (await view(stub))["a1"].router_id == "r2"

        await eventually(moved)
