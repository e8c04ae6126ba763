"""Acks give way to results that come at once, and to nothing else."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from podium.sdk import acks
from podium.sdk.agent import Agent
from podium.sdk.context import Context
from podium.sdk.host import AgentHost
from podium.sdk.outbox import Outbox
from podium.v1.session_pb2 import AgentFrame
from tests.sdk.fakes import FakeRouter, settings
from tests.support.waiting import eventually


def hosting(router: FakeRouter, agent: Agent) -> AgentHost:
    address: str = router.address  # type: ignore[attr-defined]  # set by the fixture
    return AgentHost([agent], settings=settings(routing=address), grace_s=0.0)


async def test_a_handler_that_returns_at_once_sends_its_result_alone(
    router: FakeRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acks, "HOLD_S", 60.0)
    agent = Agent("worker", agent_id="a1", capacity=2)

    @agent.handles("work")
    async def work(payload: bytes) -> None: ...

    async with hosting(router, agent):
        router.assign("a1", "t1")
        await eventually(lambda: router.frames("result"))

    assert not router.frames("ack")


async def test_a_handler_that_takes_its_time_is_acked(
    router: FakeRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acks, "HOLD_S", 0.001)
    agent = Agent("worker", agent_id="a1")

    @agent.handles("work")
    async def work(payload: bytes) -> None:
        await asyncio.Event().wait()

    async with hosting(router, agent):
        router.assign("a1", "t1")
        [ack] = await eventually(lambda: router.frames("ack"))
        assert ack.ack.lease.task_id == "t1"


async def test_what_else_is_said_takes_the_acks_that_wait_along_ahead_of_it(
    router: FakeRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acks, "HOLD_S", 60.0)
    agent = Agent("worker", agent_id="a1", capacity=2)

    @agent.handles("work")
    async def work(payload: bytes, task: Context) -> None:
        await asyncio.sleep(0)
        task.progress(0.5)
        await asyncio.Event().wait()

    async with hosting(router, agent):
        router.assign("a1", "t1")
        await eventually(lambda: router.frames("progress"))
        kinds = [frame.WhichOneof("frame") for frame in router.frames()]

    assert kinds == ["hello", "ack", "progress"]


async def test_a_result_that_is_said_together_with_its_ack_spares_it() -> None:
    link: Any = SimpleNamespace(outbox=Outbox())
    ack, other, result = (AgentFrame(agent_id=f"a{number}") for number in range(3))
    items = [("ack", ("t1", 1), ack), ("ack", ("t2", 1), other), ("result", ("t1", 1), result)]

    acks.HeldAcks().send(link, items, [ack, other, result])

    assert await link.outbox.take() == [other, result]


async def test_an_ack_of_a_task_of_which_more_is_told_goes_ahead_of_that() -> None:
    link: Any = SimpleNamespace(outbox=Outbox())
    ack, progress, result = (AgentFrame(agent_id=f"a{number}") for number in range(3))
    held, key = acks.HeldAcks(), ("t1", 1)

    held.send(link, [("ack", key, ack)], [ack])
    held.send(link, [("progress", key, progress), ("result", key, result)], [progress, result])

    assert await link.outbox.take() == [ack, progress, result]


async def test_an_ack_that_waits_is_not_sent_on_another_stream() -> None:
    first: Any = SimpleNamespace(outbox=Outbox())
    second: Any = SimpleNamespace(outbox=Outbox())
    ack, progress = AgentFrame(agent_id="a1"), AgentFrame(agent_id="a2")
    held = acks.HeldAcks()

    held.send(first, [("ack", ("t1", 1), ack)], [ack])
    held.send(second, [("progress", ("t2", 1), progress)], [progress])
    held.send(second, [("ack", ("t3", 1), ack)], [ack])
    await eventually(lambda: len(second.outbox) == 2)

    assert await second.outbox.take() == [progress, ack]
    assert not len(first.outbox)


async def test_an_ack_of_a_lease_that_is_over_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acks, "HOLD_S", 0.0)
    link: Any = SimpleNamespace(outbox=Outbox())
    ack, over = AgentFrame(agent_id="a1"), AgentFrame(agent_id="a2")
    items = [("ack", ("t1", 1), ack), ("ack", ("t2", 1), over)]

    acks.HeldAcks().send(link, items, [ack])

    assert await link.outbox.take() == [ack]
