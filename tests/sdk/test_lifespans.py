from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from podium.sdk import host as hosts
from podium.sdk.agent import Agent
from podium.sdk.host import AgentHost
from podium.sdk.lifespans import Lifespans
from tests.sdk.fakes import FakeRouter, settings, spec
from tests.support.waiting import eventually


def agent(
    agent_id: str, version: str, events: list[str], *, fails: bool = False, more: str = ""
) -> Agent:
    made = Agent("worker", agent_id=agent_id, capacity=2)

    @made.lifespan
    async def opened() -> AsyncIterator[None]:
        if fails:
            raise RuntimeError("no database")
        events.append(f"opens {agent_id} {version}")
        yield
        events.append(f"closes {agent_id} {version}")

    for task_type in filter(None, ("work", more)):

        @made.handles(task_type)
        async def work(payload: str) -> str:
            return version

    return made


def hosting(router: FakeRouter, *agents: Agent) -> AgentHost:
    address: str = router.address  # type: ignore[attr-defined]  # set by the fixture
    return AgentHost(list(agents), settings=settings(routing=address), grace_s=1)


async def test_agents_are_all_replaced_or_none(router: FakeRouter) -> None:
    events: list[str] = []
    host = hosting(router, agent("a1", "old", events), agent("a2", "old", events))

    async with host:
        newer = [agent("a1", "new", events, more="more"), agent("a2", "new", events, fails=True)]
        with pytest.raises(RuntimeError, match="no database"):
            await host.replace(newer)
        assert events[2:] == ["opens a1 new", "closes a1 new"]
        for agent_id in ("a1", "a2"):
            router.assign(agent_id, agent_id, spec=spec())
        await eventually(lambda: len(router.frames("result")) == 2)
        assert {f.result.success.data for f in router.frames("result")} == {b"old"}

        await host.replace([newer[0], agent("a2", "new", events)])
        await eventually(lambda: len(router.frames("hello")) >= 3)
        hellos = [f.hello for f in router.frames("hello") if len(f.hello.capabilities) == 2]
        assert hellos, "what it can do now is said, also after an attempt that failed"
        for agent_id in ("a1", "a2"):
            router.assign(agent_id, f"{agent_id}-again", spec=spec())
        await eventually(lambda: len(router.frames("result")) == 4)

    said = [f.result.success.data for f in router.frames("result")[2:]]
    assert said == [b"new", b"new"]
    assert events[-2:] == ["closes a2 new", "closes a1 new"]


async def test_the_same_agent_twice_replaces_nothing(router: FakeRouter) -> None:
    events: list[str] = []
    async with hosting(router, agent("a1", "old", events)) as host:
        with pytest.raises(ValueError, match="an agent_id of its own"):
            await host.replace([agent("a1", "x", events), agent("a1", "y", events)])

    assert events == ["opens a1 old", "closes a1 old"]


async def test_opening_that_is_given_up_closes_what_was_open() -> None:
    events: list[str] = []
    reached = asyncio.Event()
    slow = agent("a2", "1", events)

    @slow.lifespan
    async def hangs() -> AsyncIterator[None]:
        reached.set()
        await asyncio.Event().wait()
        yield

    opening = asyncio.create_task(Lifespans().open([agent("a1", "1", events), slow]))
    await reached.wait()
    opening.cancel()
    await asyncio.wait({opening})

    assert opening.cancelled()
    assert events == ["opens a1 1", "opens a2 1", "closes a1 1"]


async def test_a_lifespan_that_does_not_close_holds_up_neither_the_program_nor_the_others(
    router: FakeRouter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hosts, "LIFESPAN_S_MAX", 0.05)
    events: list[str] = []
    stuck = Agent("worker", agent_id="a2")
    stuck.handles("work")(lambda payload: None)

    @stuck.lifespan
    async def opened() -> AsyncIterator[None]:
        yield
        await asyncio.Event().wait()

    async with asyncio.timeout(5):
        async with hosting(router, agent("a1", "1", events), stuck):
            pass

    assert events == ["opens a1 1", "closes a1 1"]
    assert "what a2 has open does not close: it is left behind" in caplog.text
