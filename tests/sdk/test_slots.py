from __future__ import annotations

import asyncio
import threading

import pytest

from podium.sdk import runner
from podium.sdk.agent import Agent
from podium.sdk.context import Context
from podium.sdk.host import AgentHost
from podium.sdk.identity import Identity
from podium.sdk.leases import LeaseTable
from podium.sdk.slots import Slots
from podium.v1 import agent_pb2, session_pb2
from podium.v1.session_pb2 import LeaseRef, Nack, RouterFrame
from tests.sdk.fakes import FakeRouter, settings
from tests.support.waiting import eventually


@pytest.fixture
def leases() -> LeaseTable:
    return LeaseTable()


@pytest.fixture
def slots(leases: LeaseTable) -> Slots:
    return Slots(leases)


def totals(slots: Slots, capacity: int = 2) -> list[int]:
    identity = Identity(
        "a1", [agent_pb2.Capability(name="work")], instance_id="i1", max_concurrency=capacity
    )
    return [frame.credit.total for frame in slots.credits({"a1": identity})]


def take(slots: Slots, leases: LeaseTable, task_id: str) -> None:
    leases.add("a1", (task_id, 1), 0.0)
    slots.taken["a1"] += 1


def test_nothing_is_counted_while_every_task_stops_when_it_should(
    slots: Slots, leases: LeaseTable
) -> None:
    take(slots, leases, "t1")

    assert not slots.counted


@pytest.mark.parametrize("lost", [False, True], ids=["canceled", "lease lost"])
def test_a_task_that_does_not_stop_takes_a_slot_until_it_has(
    slots: Slots, leases: LeaseTable, lost: bool
) -> None:
    take(slots, leases, "stuck")
    take(slots, leases, "other")
    slots.note("a1", ("stuck", 1), stuck=True)
    if lost:
        leases.forget(("stuck", 1))
    assert totals(slots) == [2], "none is free"
    leases.forget(("other", 1))
    assert totals(slots) == [3]
    assert totals(slots) == [], "only what rises is told"
    take(slots, leases, "next")
    assert totals(slots) == []

    slots.note("a1", ("stuck", 1), stuck=False)
    leases.forget(("stuck", 1))
    assert totals(slots) == [4]


def test_each_ready_begins_a_new_count_for_as_long_as_a_task_is_stuck(
    slots: Slots, leases: LeaseTable
) -> None:
    take(slots, leases, "stuck")
    slots.note("a1", ("stuck", 1), stuck=True)
    slots.begin("a1")
    assert totals(slots) == [1]
    slots.note("a1", ("stuck", 1), stuck=False)
    slots.begin("a1")

    assert not slots.counted


async def test_an_agent_tells_of_a_thread_that_does_not_stop_and_declines_what_cannot_begin(
    router: FakeRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "STUCK_S", 0.05)
    monkeypatch.setattr(runner, "ROOM_S", 0.05)
    address: str = router.address  # type: ignore[attr-defined]  # set by the fixture
    agent = Agent("worker", agent_id="a1", capacity=1)
    begun: list[str] = []
    release = threading.Event()

    @agent.handles("work")
    def work(payload: bytes, task: Context) -> None:
        begun.append(task.task_id)
        if task.task_id == "t1":
            release.wait()

    def told() -> list[int]:
        return [frame.credit.total for frame in router.frames("credit")]

    async with AgentHost([agent], settings=settings(routing=address)):
        router.assign("a1", "t1")
        await eventually(lambda: begun)
        lease = LeaseRef(task_id="t1", lease_epoch=1)
        stop = session_pb2.Cancel(lease=lease, reason="CANCELED")
        router.say(RouterFrame(agent_id="a1", cancel=stop))
        await eventually(lambda: told() == [1])
        router.assign("a1", "t2")
        [declined] = await eventually(lambda: router.frames("nack"))
        release.set()
        await eventually(lambda: told()[-1] == 3)
        router.assign("a1", "t3")
        await eventually(lambda: begun == ["t1", "t3"])
        await eventually(lambda: told()[-1] == 4)

    assert (declined.nack.lease.task_id, declined.nack.reason) == ("t2", Nack.REASON_BUSY)
    assert told() == [1, 2, 3, 4], "two had come before a slot was free again"
    ended = [frame.result.lease.task_id for frame in router.frames("result")]
    assert ended == ["t1", "t3"], "what was declined has no outcome"


async def test_a_task_waits_a_moment_for_one_that_is_stopping(router: FakeRouter) -> None:
    address: str = router.address  # type: ignore[attr-defined]  # set by the fixture
    agent = Agent("worker", agent_id="a1", capacity=1)
    stopping = asyncio.Event()
    release = asyncio.Event()

    @agent.handles("work")
    async def work(payload: bytes, task: Context) -> None:
        if task.task_id == "t1":
            try:
                await asyncio.Event().wait()
            finally:
                stopping.set()
                await release.wait()

    async with AgentHost([agent], settings=settings(routing=address)):
        router.assign("a1", "t1")
        await eventually(lambda: router.frames("ack"))
        lease = LeaseRef(task_id="t1", lease_epoch=1)
        router.say(RouterFrame(agent_id="a1", recall=session_pb2.Recall(leases=[lease])))
        router.assign("a1", "t2")
        await stopping.wait()
        release.set()
        await eventually(lambda: router.frames("result"))

    assert [frame.result.lease.task_id for frame in router.frames("result")] == ["t2"]
    assert router.frames("nack") == []
