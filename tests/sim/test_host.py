from __future__ import annotations

import asyncio

import uvloop

from podium.sdk.tracing import Tracer
from podium.sim.host import Member, SimHost
from podium.sim.profiles import Profile, ServiceTime, Worker
from tests.sdk.fakes import FakeRouter, router_of, serving, settings, spec
from tests.support.waiting import eventually


async def work_of(durations_ms: dict[str, float]) -> list[str]:
    """Returns the types of tasks, assigned in order, in the order in which they ended."""
    router = FakeRouter()
    times = {name: ServiceTime(ms, sigma=0.0) for name, ms in durations_ms.items()}
    worker = Worker(Profile("plain", 1.0, 1.0), seed=1, times=times)
    member = Member("a1", tuple(durations_ms), 10, worker, {})
    async with serving(router_of(router)) as address:
        where = settings(routing=address)
        host = SimHost([member], where, Tracer("agent", where))
        running = asyncio.create_task(host.run())
        await asyncio.wait_for(host.session.ready.wait(), 5)
        for name in durations_ms:
            router.assign("a1", name, spec=spec(name))
        await eventually(lambda: len(router.frames("result")) == len(durations_ms))
        await host.session.stop()
        await running
    return [frame.result.lease.task_id for frame in router.frames("result")]


def test_a_shorter_task_that_comes_later_ends_first_on_the_loop_that_agents_use() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        ended = runner.run(work_of({"long": 400.0, "short": 50.0, "middle": 150.0}))

    assert ended == ["short", "middle", "long"]
