"""What an operator was told is done is in Redis by then; nothing else may be acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from podium.v1 import agent_pb2, agent_registry_pb2
from services.agent_registry.adapters.redis import RedisStore
from services.agent_registry.core.kept import Kept
from tests.agent_registry.test_replicas import Floor, known
from tests.agent_registry.test_servicer import agent, refused
from tests.support.redis import Server, server
from tests.support.waiting import eventually

pb = agent_registry_pb2


@pytest.fixture
async def floor() -> AsyncIterator[Floor]:
    with server() as redis:
        stack = AsyncExitStack()
        yield Floor(redis, stack)
        async with asyncio.timeout(20):
            await stack.aclose()


async def kept(redis: Server, agent_id: str) -> Kept:
    """Returns what Redis has of an agent, at once."""
    store = RedisStore(redis.url)
    try:
        return (await store.load([agent_id]))[0]
    finally:
        await store.close()


async def test_a_decision_is_kept_when_it_is_acknowledged(floor: Floor) -> None:
    stub, _ = await floor.registry()
    await floor.router(stub, "r1", agent("a1"), agent("a2"))

    await stub.QuarantineAgent(pb.QuarantineAgentRequest(agent_id="a1", reason="odd answers"))
    assert (await kept(floor.redis, "a1")).quarantined
    await stub.ReleaseAgent(pb.ReleaseAgentRequest(agent_id="a1"))
    assert not (await kept(floor.redis, "a1")).quarantined
    await stub.DrainAgents(pb.DrainAgentsRequest(agent_id="a2"))
    assert (await kept(floor.redis, "a2")).draining
    renamed = agent_pb2.Agent(agent_id="a2", name="Ann")
    await stub.UpdateAgent(pb.UpdateAgentRequest(agent=renamed))
    assert (await kept(floor.redis, "a2")).facts.name == "Ann"


async def test_an_agent_that_was_deregistered_is_not_kept_any_more(floor: Floor) -> None:
    stub, _ = await floor.registry()
    router = await floor.router(stub, "r1", agent("a1"))
    await eventually(lambda: exists(floor.redis, "a1"))
    await router.tell(closed=[{"agent_id": "a1", "orderly": True}])
    await known(stub, "a1", agent_pb2.Agent.STATUS_OFFLINE)

    await stub.DeregisterAgent(pb.DeregisterAgentRequest(agent_id="a1"))

    assert not await exists(floor.redis, "a1")


async def exists(redis: Server, agent_id: str) -> bool:
    store = RedisStore(redis.url)
    try:
        return bool(await store.load([agent_id]))
    finally:
        await store.close()


async def test_a_decision_is_kept_although_another_replica_has_written_a_later_term(
    floor: Floor,
) -> None:
    one, _ = await floor.registry()
    other, _ = await floor.registry()
    await floor.router(one, "r1", agent("a1"))
    await known(other, "a1")
    store = RedisStore(floor.redis.url)
    (before,) = await store.load(["a1"])
    # As its home does when the agent comes anew; the one that is asked has not read of it yet.
    later = before._replace(term=before.term + 5)
    await store.save([later], [])
    await store.close()

    await other.QuarantineAgent(pb.QuarantineAgentRequest(agent_id="a1"))

    there = await kept(floor.redis, "a1")
    assert there.quarantined and there.term >= later.term


async def test_what_cannot_be_kept_holds_but_is_not_acknowledged_until_it_is(floor: Floor) -> None:
    stub, _ = await floor.registry()
    router = await floor.router(stub, "r1", agent("a1"))
    floor.redis.stop()

    async def lost(call: Any) -> bool:
        error = await refused(call)
        return (error.code, error.reason) == ("UNAVAILABLE", "REGISTRY_STORE_UNREACHABLE")

    quarantine = pb.QuarantineAgentRequest(agent_id="a1", reason="odd answers")
    assert await lost(stub.QuarantineAgent(quarantine))
    await eventually(lambda: [each for each in router.directives if each.quarantined])
    release = pb.ReleaseAgentRequest(agent_id="a1")
    # To ask again is no fault, whatever has come of the first time.
    for _ in range(2):
        assert await lost(stub.ReleaseAgent(release))

    floor.redis.start()
    await eventually(lambda: exists(floor.redis, "a1"))
    await stub.ReleaseAgent(release)
    await stub.QuarantineAgent(quarantine)

    assert (await kept(floor.redis, "a1")).reason == "odd answers"
