from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import uvloop

from podium.sdk.tracing import Tracer
from podium.sim.crew import Plan
from podium.sim.host import Member, SimHost
from podium.sim.profiles import Behaviour, Profile, ServiceTime, Worker
from podium.v1 import session_pb2
from podium.v1.session_pb2 import LeaseRef, RouterFrame
from tests.sdk.fakes import FakeRouter, results, router_of, serving, settings, spec
from tests.support.processes import Processes
from tests.support.waiting import eventually


@asynccontextmanager
async def hosting(router: FakeRouter, plan: Plan) -> AsyncIterator[SimHost]:
    async with serving(router_of(router)) as address:
        chosen = settings(routing=address)
        tracer = Tracer("agent", chosen)
        members = plan.members(0, plan.agent_count)
        host = SimHost(members, chosen, tracer, behaviour=plan.behaviour)
        running = asyncio.create_task(host.run())
        await asyncio.wait_for(host.session.ready.wait(), 5)
        try:
            yield host
        finally:
            await host.session.stop()
            await asyncio.wait_for(running, 5)


async def test_an_instant_agent_answers_with_its_result_alone() -> None:
    router = FakeRouter()
    async with hosting(router, Plan(agent_count=2, profile="instant")) as host:
        router.assign("sim-0001")
        await eventually(lambda: host.session.talk.verdict_counts[1] == 1)

    kinds = [[frame.WhichOneof("frame") for frame in message] for message in router.messages]
    assert ["result"] in kinds
    assert not router.frames("ack")
    assert results(router.frames("result")) == [("t1", "success")]
    assert host.completed_count == 1


async def test_work_takes_its_time_and_ends_in_order_of_its_end() -> None:
    router = FakeRouter()
    plan = Plan(agent_count=1, profile="fast_accurate", capacity=9)
    async with hosting(router, plan) as host:
        for number in range(9):
            router.assign("sim-0000", f"t{number}", spec=spec("search.rank"))
        await eventually(lambda: len(router.frames("result")) == 9)

    assert len(router.frames("ack")) == 9
    assert host.completed_count + host.failed_count == 9
    assert not host.session.talk.leases


async def test_a_canceled_task_is_answered_so_and_not_finished() -> None:
    router = FakeRouter()
    async with hosting(router, Plan(agent_count=1, profile="slow_precise")) as host:
        router.assign("sim-0000", spec=spec("audio.transcribe"))
        await eventually(lambda: router.frames("ack"))
        lease = LeaseRef(task_id="t1", lease_epoch=1)
        cancel = session_pb2.Cancel(lease=lease, reason="CANCELED")
        router.say(RouterFrame(agent_id="sim-0000", cancel=cancel))
        await eventually(lambda: results(router.frames("result")) == [("t1", "canceled")])

    assert host.completed_count == 0


async def test_an_agent_that_never_acks_says_nothing() -> None:
    router = FakeRouter()
    plan = Plan(agent_count=1, behaviour=Behaviour(never_ack_rate=1.0))
    async with hosting(router, plan):
        router.assign("sim-0000")
        router.say(RouterFrame(agent_id="sim-0000", probe=session_pb2.Probe(nonce=1)))
        await eventually(lambda: router.frames("probe_reply"))

    assert not router.frames("ack") and not router.frames("nack")


async def test_a_host_that_loses_its_stream_now_and_then_comes_back() -> None:
    router = FakeRouter()
    plan = Plan(agent_count=3, behaviour=Behaviour(disconnect_every_s=0.02))
    async with hosting(router, plan) as host:
        await eventually(lambda: host.session.connect_count >= 3)


async def test_a_host_process_says_when_it_is_ready_and_in_the_end_what_it_did(
    processes: Processes,
) -> None:
    router = FakeRouter()
    async with serving(router_of(router)) as address:
        process = processes.python(
            "-m",
            "podium.sim",
            "--agents=5",
            "--profile=instant",
            "--own-streams",
            environ={"PODIUM_ROUTING_ADDRESS": address, "PODIUM_OTLP_ENDPOINT": "off"},
        )
        await asyncio.to_thread(process.wait_for, "^ready$")
        assert sorted(s.agents[0] for s in router.streams) == [f"sim-000{n}" for n in range(5)]
        router.assign(router.streams[-1].agents[0])
        await eventually(lambda: router.frames("result"))
        process.signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait) == 0

    figures = orjson.loads(process.output().splitlines()[-1])
    assert (figures["completed"], figures["accepted"], figures["streams_opened"]) == (1, 1, 5)


async def test_a_second_signal_ends_a_host_process_at_once(processes: Processes) -> None:
    router = FakeRouter()
    router.acking = False
    async with serving(router_of(router)) as address:
        environ = {"PODIUM_ROUTING_ADDRESS": address, "PODIUM_OTLP_ENDPOINT": "off"}
        process = processes.python(
            "-m", "podium.sim", "--agents=1", "--profile=instant", environ=environ
        )
        await asyncio.to_thread(process.wait_for, "^ready$")
        router.assign(router.streams[-1].agents[0])
        await eventually(lambda: router.frames("result"))
        process.signal(signal.SIGTERM)
        await eventually(lambda: router.frames("drain"))
        process.signal(signal.SIGTERM)

        assert await asyncio.to_thread(process.wait, 8.0) == 0
    assert router.frames("goodbye")


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
