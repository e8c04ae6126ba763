"""What operators have decided outlasts a registry that has no store to share, however it ends."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from podium.v1 import agent_pb2, agent_registry_pb2
from services.agent_registry.adapters.decisions import DecisionFile
from services.agent_registry.core.acts import Act
from services.agent_registry.core.breaker import Standing
from services.agent_registry.core.kept import Kept
from services.kernel.errors import Unavailable
from tests.agent_registry.hall import facts
from tests.agent_registry.test_servicer import Router, agent, refused, registry_at
from tests.support.waiting import eventually

pb = agent_registry_pb2
ACT = Act("quarantine", 1_000, reason="odd answers")


def decided(agent_id: str, *acts: Act) -> Kept:
    return Kept(facts(agent_id), 1, 2, quarantined=bool(acts), reason="odd answers", acts=acts)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "decisions.jsonl"


def keep(file: DecisionFile, saved: list[Kept], removed: list[str]) -> None:
    asyncio.run(file.keep(saved, removed))


def test_a_decision_is_read_again_without_what_sessions_tell(path: Path) -> None:
    there = decided("a", ACT)._replace(
        present=True, router_id="r1", in_flight=3, breaker=Standing(1, 20.0, 77)
    )

    keep(DecisionFile(path), [there, decided("b")], [])

    assert DecisionFile(path).read() == [decided("a", ACT)]


def test_an_agent_that_is_forgotten_is_not_read_again(path: Path) -> None:
    file = DecisionFile(path)
    keep(file, [decided("a", ACT), decided("b", ACT)], [])

    keep(file, [], ["a", "never-known"])

    assert DecisionFile(path).read() == [decided("b", ACT)]


def test_it_is_written_for_decisions_alone(path: Path) -> None:
    file = DecisionFile(path)
    keep(file, [decided("a", ACT)], [])
    path.unlink()

    keep(file, [decided("a", ACT)._replace(in_flight=1), decided("b")], ["c"])
    assert not path.exists()

    keep(file, [decided("a", ACT._replace(at_ms=2_000))], [])
    assert len(DecisionFile(path).read()) == 1


def test_what_cannot_be_written_is_refused_and_written_later(path: Path) -> None:
    path.parent.write_text("no directory")
    file = DecisionFile(path)
    with pytest.raises(Unavailable):
        keep(file, [decided("a", ACT)], [])
    path.parent.unlink()

    keep(file, [], [])

    assert DecisionFile(path).read() == [decided("a", ACT)]


def test_a_line_that_cannot_be_read_is_told_and_costs_no_other(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep(DecisionFile(path), [decided("a", ACT), decided("b", ACT)], [])
    first, second = path.read_text().splitlines()
    path.write_text(f"{first[:-9]}\n{second}\n")

    with caplog.at_level(logging.ERROR):
        assert DecisionFile(path).read() == [decided("b", ACT)]

    assert "line 1 of" in caplog.text


async def test_a_registry_begins_with_the_decisions_of_the_one_before(tmp_path: Path) -> None:
    async with registry_at(tmp_path) as stub:
        router = Router(stub)
        await router.tell(snapshot=True, opened=[agent("here"), agent("away"), agent("back")])
        await eventually(lambda: known(stub, "back"))
        for agent_id in ("here", "away", "back"):
            hold = pb.QuarantineAgentRequest(agent_id=agent_id, reason="odd answers")
            await stub.QuarantineAgent(hold)
        await stub.ReleaseAgent(pb.ReleaseAgentRequest(agent_id="back"))
        await stub.UpdateAgent(
            pb.UpdateAgentRequest(agent=agent_pb2.Agent(agent_id="here", name="Ann"))
        )
        written = (tmp_path / "agent_registry" / "decisions.jsonl").read_bytes()
        await router.close()
    # As it was when the last answer came: nothing that an orderly end adds counts.
    (tmp_path / "agent_registry" / "decisions.jsonl").write_bytes(written)

    async with registry_at(tmp_path) as stub:
        router = Router(stub)
        # A router that has begun anew as well: it was told nothing of them.
        bad = agent("back", breaker=agent_pb2.Agent.BREAKER_OPEN)
        await router.tell(snapshot=True, opened=[agent("here"), bad])
        await eventually(lambda: len(router.directives) >= 2)
        told = {each.agent_id: each for each in router.directives}
        away = (await stub.GetAgent(pb.GetAgentRequest(agent_id="away"))).agent
        here = (await stub.GetAgent(pb.GetAgentRequest(agent_id="here"))).agent
        await router.close()

    assert told["here"].quarantined and told["here"].reason == "odd answers"
    assert (here.status, here.name) == (agent_pb2.Agent.STATUS_QUARANTINED, "Ann")
    assert (away.status, away.status_reason) == (agent_pb2.Agent.STATUS_OFFLINE, "odd answers")
    # Nothing was decided about its breaker: of that its router knows more.
    assert not told["back"].quarantined
    assert told["back"].breaker == agent_pb2.Agent.BREAKER_OPEN


async def known(stub: object, agent_id: str) -> bool:
    listed = await stub.ListAgents(pb.ListAgentsRequest())  # type: ignore[attr-defined]  # a stub
    return agent_id in {each.agent_id for each in listed.agents}


async def test_a_decision_that_cannot_be_written_is_not_acknowledged(tmp_path: Path) -> None:
    (tmp_path / "agent_registry").write_text("no directory")
    async with registry_at(tmp_path) as stub:
        router = Router(stub)
        await router.tell(snapshot=True, opened=[agent("a1")])
        await eventually(lambda: known(stub, "a1"))

        error = await refused(stub.QuarantineAgent(pb.QuarantineAgentRequest(agent_id="a1")))

        assert (error.code, error.reason) == ("UNAVAILABLE", "REGISTRY_STORE_UNREACHABLE")
        await eventually(lambda: [each for each in router.directives if each.quarantined])
        await router.close()
