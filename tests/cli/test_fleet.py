from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.agent_registry.serving import Served, served
from tests.cli.shell import Shell


@pytest.fixture
async def registry() -> AsyncIterator[Served]:
    async with served() as made:
        yield made


@pytest.fixture
def podium(registry: Served) -> Shell:
    return Shell({"PODIUM_AGENT_REGISTRY_ADDRESS": registry.address, "PODIUM_OTLP_ENDPOINT": "off"})


async def test_agents_are_drained_by_id_and_by_label(registry: Served, podium: Shell) -> None:
    by_id = await podium("agents", "drain", "a3", "--reason", "an update")
    by_label = await podium("agents", "drain", "--label", "zone=x", "--json")

    assert (by_id.code, by_id.out) == (0, "a3: draining\n")
    assert by_label.lines == [{"agentIds": ["a1", "a2"]}]
    for agent_id in ("a1", "a2", "a3"):
        await registry.told(agent_id, draining=True)
    nobody = await podium("agents", "drain", "-l", "zone=z")
    assert (nobody.code, nobody.out) == (0, "No agent matches.\n")
    assert "draining" in (await podium("agents")).out


async def test_agents_are_quarantined_and_released(registry: Served, podium: Shell) -> None:
    kept = await podium("agents", "quarantine", "a1", "a2", "--reason", "odd answers")
    assert (kept.code, kept.out) == (0, "a1: in quarantine\na2: in quarantine\n")
    assert await registry.status("a2") == "STATUS_QUARANTINED"

    released = await podium("agents", "release", "a1", "--json")
    assert released.lines == [{"agentIds": ["a1"]}]
    assert await registry.status("a1") == "STATUS_IDLE"
    assert await registry.status("a2") == "STATUS_QUARANTINED"


async def test_what_cannot_be_done_to_agents_is_said(podium: Shell) -> None:
    unknown = await podium("agents", "quarantine", "a9")
    free = await podium("agents", "release", "a1", "--json")

    assert (unknown.code, "AGENT_NOT_FOUND" in unknown.err) == (4, True)
    assert (free.code, "NOT_QUARANTINED" in free.err) == (1, True)
    for wrong in (("drain",), ("drain", "a1", "-l", "zone=x"), ("drain", "-l", "x"), ("release",)):
        assert (await podium("agents", *wrong)).code == 2


async def test_help_tells_what_can_be_done_to_agents(podium: Shell) -> None:
    told = (await podium("agents", "--help")).out

    for name in ("drain", "quarantine", "release", "--idle", "--json"):
        assert name in told
