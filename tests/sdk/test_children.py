from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from podium.sdk import wire
from podium.sdk.agent import Agent
from podium.sdk.context import Context
from podium.sdk.errors import FailedPrecondition
from podium.sdk.host import AgentHost
from podium.sdk.testing import start_handler
from tests.sdk.fakes import FakeRouter, FakeScheduler, scheduler_of, serving, settings
from tests.support.waiting import eventually

PARENT = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


@pytest.fixture
async def scheduler() -> AsyncIterator[FakeScheduler]:
    """A fake scheduler on the wire's own loop, since one loop alone may do gRPC."""
    shared = wire.acquire()
    made: list[FakeScheduler] = []
    stop = asyncio.Event()
    started = threading.Event()

    async def serve() -> None:
        fake = FakeScheduler()
        fake.completing = True
        async with serving(scheduler_of(fake)) as address:
            fake.address = address  # type: ignore[attr-defined]  # tests read it, nobody else
            made.append(fake)
            started.set()
            await stop.wait()

    served = asyncio.create_task(shared.run(serve()))
    await asyncio.get_running_loop().run_in_executor(None, started.wait)
    yield made[0]
    shared.loop.call_soon_threadsafe(stop.set)
    await served
    await wire.release(shared)


@pytest.mark.parametrize("plain", [False, True])
async def test_a_host_submits_children_by_a_client_of_its_own(
    router: FakeRouter, scheduler: FakeScheduler, plain: bool
) -> None:
    agent = Agent("parent", agent_id="a1")

    async def parent(payload: bytes, task: Context) -> Any:
        return await (await task.submit("child", b"x")).result()

    def plainly(payload: bytes, task: Context) -> Any:
        child = task.wait_for(task.submit("child", b"x"))
        return task.wait_for(child.result())

    agent.handles("work")(plainly if plain else parent)
    addresses = settings(
        routing=router.address,  # type: ignore[attr-defined]  # set by the fixture
        task_scheduler=scheduler.address,  # type: ignore[attr-defined]  # likewise
    )
    async with AgentHost([agent], settings=addresses, grace_s=5):
        router.assign("a1", traceparent=PARENT)
        await eventually(lambda: router.frames("result"))

    result = router.frames("result")[0].result
    assert result.success.data == b"done"
    ((child,),) = scheduler.batches
    assert (child.type, child.parent_task_id) == ("child", "t1")
    # Below the handler's own span, in the same trace.
    assert child.traceparent.split("-")[1] == "a" * 32
    assert child.traceparent != result.traceparent


@pytest.mark.parametrize("plain", [False, True])
async def test_an_attempt_that_is_over_gets_no_children_any_more(plain: bool) -> None:
    agent = Agent("parent", agent_id="a1")
    refused: list[FailedPrecondition] = []

    async def parent(payload: bytes, task: Context) -> None:
        task.progress(0.5)
        try:
            await asyncio.Event().wait()
        finally:
            with pytest.raises(FailedPrecondition) as raised:
                await task.submit("child")
            refused.append(raised.value)

    def plainly(payload: bytes, task: Context) -> None:
        task.progress(0.5)
        while not task.cancelled:
            time.sleep(0.001)
        with pytest.raises(FailedPrecondition) as raised:
            task.wait_for(task.submit("child"))
        refused.append(raised.value)

    agent.handles("work")(plainly if plain else parent)
    async with start_handler(agent, "work") as run:
        await run.changed()
        run.cancel("ATTEMPT_TIMEOUT")
        record = await run.wait()

    assert [error.reason for error in refused] == ["STALE_LEASE"]
    assert record.canceled and record.children == []
