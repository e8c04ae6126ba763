from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from podium.sdk.client import Client
from podium.sdk.errors import FailedPrecondition, InvalidArgument, NotFound
from podium.v1 import agent_pb2, agent_registry_pb2
from tests.agent_registry.serving import Served, served
from tests.sdk.fakes import settings


@pytest.fixture
async def registry() -> AsyncIterator[Served]:
    async with served() as made:
        yield made


@pytest.fixture
async def client(registry: Served) -> AsyncIterator[Client]:
    async with Client(settings(agent_registry=registry.address), inline=True) as client:
        yield client


async def test_agents_are_drained_by_id_and_by_label(registry: Served, client: Client) -> None:
    zone = agent_registry_pb2.AgentFilter(labels={"zone": "x"})

    assert list(await client.fleet.drain("a3", reason="an update")) == ["a3"]
    assert list(await client.fleet.drain(filter=zone)) == ["a1", "a2"]

    for agent_id in ("a1", "a2", "a3"):
        await registry.told(agent_id, draining=True)
    nowhere = agent_registry_pb2.AgentFilter(labels={"zone": "z"})
    assert list(await client.fleet.drain(filter=nowhere)) == []


async def test_an_agent_is_quarantined_and_released(registry: Served, client: Client) -> None:
    kept = await client.fleet.quarantine("a1", reason="odd answers")
    assert (kept.status, kept.status_reason) == (
        agent_pb2.Agent.STATUS_QUARANTINED,
        "odd answers",
    )
    await registry.told("a1", quarantined=True)

    assert (await client.fleet.release("a1")).status == agent_pb2.Agent.STATUS_IDLE
    await registry.told("a1", quarantined=False)
    with pytest.raises(FailedPrecondition, match="quarantine"):
        await client.fleet.release("a1")


async def test_agents_that_are_not_there_and_drains_of_nobody_are_refused(client: Client) -> None:
    for call in (client.fleet.drain, client.fleet.quarantine, client.fleet.release):
        with pytest.raises(NotFound):
            await call("a9")
    with pytest.raises(InvalidArgument):
        await client.fleet.drain()
