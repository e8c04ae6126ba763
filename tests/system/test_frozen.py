"""What stands still and comes back: agents, routers, the registry; numbered as in the matrix."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import grpc.aio
import pytest
import pytest_asyncio

from podium.v1 import agent_pb2, agent_registry_pb2, event_pb2, routing_pb2
from podium.v1.session_pb2 import LeaseRef
from services.kernel.clock import SystemClock
from services.kernel.rpc import from_rpc_error
from tests.routing.peers import LOST
from tests.support.waiting import eventually
from tests.system.stage import ACK_S, LEASE_S, Stage, beating, staged

pytestmark = pytest.mark.asyncio(loop_scope="module")

WHOLE = ["CREATED", "QUEUED", "ASSIGNED", "STARTED", "COMPLETED"]
OFFLINE = agent_pb2.Agent.STATUS_OFFLINE
GRACE_S = 1.5
"""After which the registry holds an agent's silence against it."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def suite(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    times = {"PODIUM_AGENT_GRACE_S": GRACE_S, "PODIUM_HEARTBEAT_S": 0.3}
    async with staged(tmp_path_factory.mktemp("frozen"), environ=times) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def stage(suite: Stage) -> AsyncIterator[Stage]:
    yield suite
    await suite.leave()


@contextmanager
def frozen(stage: Stage, service: str) -> Iterator[None]:
    """Lets a service stand still meanwhile."""
    process = stage.suite.processes[service]
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def wall_s() -> float:
    return SystemClock().now().wall_ms / 1e3


def at_s(event: event_pb2.Event) -> float:
    return event.event_time.ToMilliseconds() / 1e3


@asynccontextmanager
async def watched(stage: Stage, *names: str) -> AsyncIterator[list[int]]:
    """Notes every status that the registry tells of some agents meanwhile."""
    told: list[int] = []

    async def watch() -> None:
        call = stage.registry.WatchAgents(agent_registry_pb2.WatchAgentsRequest())
        async for batch in call:
            told.extend(each.status for each in batch.agents if each.agent_id in names)

    watching = asyncio.create_task(watch())
    await eventually(lambda: len(told) >= len(names))
    try:
        yield told
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_f3_the_task_of_a_frozen_agent_is_queued_again_within_its_lease_and_a_second(
    stage: Stage,
) -> None:
    agent = await stage.worked("f3", "f3")
    task_id = await stage.submit_one("f3", "first 60")
    await stage.until(task_id, "STARTED")
    await asyncio.sleep(LEASE_S / 2)  # it has renewed, so the lease is not that of the start
    frozen_s = wall_s()
    agent.signal(signal.SIGSTOP)
    lost = await stage.until(task_id, "ATTEMPT_FAILED")
    again = await stage.until(task_id, "QUEUED", 2)
    await stage.until_status("f3", "SUSPECT")
    await stage.until_status("f3", "OFFLINE")

    assert lost.failed.failure.reason == "LEASE_EXPIRED"
    # It renews in each third of a lease time, so at most a third of it was gone.
    assert LEASE_S * 0.6 <= at_s(lost) - frozen_s
    assert at_s(again) - frozen_s <= LEASE_S + 1.0
    assert not (await stage.agent("f3")).router_id, "its session is closed"


async def test_f4_a_frozen_agent_that_thaws_stops_its_work_and_what_it_brings_changes_nothing(
    stage: Stage,
) -> None:
    agent = await stage.worked("f4-frozen", "f4", capacity=2)
    long, due = await stage.submit("f4", "first 60", "sleep 0.5")
    old = {each: await stage.until(each, "STARTED") for each in (long, due)}
    agent.signal(signal.SIGSTOP)
    for task_id in (long, due):
        await stage.until(task_id, "ATTEMPT_FAILED")
    other = await stage.worked("f4-other", "f4", capacity=2)
    await stage.ended(long, due)
    agent.signal(signal.SIGCONT)
    await eventually(lambda: f"stopped {long} LEASE_EXPIRED" in agent.output())
    report = routing_pb2.ReportResultRequest(agent_id="f4-frozen")
    report.result.success.data = b"too late"
    for task_id, started in old.items():
        lease = LeaseRef(task_id=task_id, lease_epoch=started.lease_epoch)
        report.result.lease.CopyFrom(lease)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stage.routing.ReportResult(report)
        refused = from_rpc_error(raised.value)
        assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "STALE_LEASE")

    again = ["ATTEMPT_FAILED", "RETRYING", "QUEUED", "ASSIGNED", "STARTED", "COMPLETED"]
    for task_id in (long, due):
        assert await stage.story(task_id) == [*WHOLE[:4], *again]
        assert (await stage.task(task_id)).result.data == b"f4-other 2"
    # It works on as if nothing had been.
    await asyncio.to_thread(other.kill)
    await stage.until_status("f4-frozen", "IDLE")
    after = await stage.submit_one("f4", "sleep 0")
    assert (await stage.ended(after)).result.data == b"f4-frozen 1"


@pytest.mark.parametrize("fault", ["frozen", "blocked"])
async def test_f4_what_was_recalled_from_an_agent_before_it_could_see_it_runs_elsewhere_alone(
    stage: Stage, fault: str
) -> None:
    """The assignment, and the word that it went back, reach the handlers' loop together."""
    held_up, other = f"f4-{fault}", f"f4-{fault}-other"
    agent = await stage.worked(held_up, fault, capacity=4)
    if fault == "frozen":
        agent.signal(signal.SIGSTOP)
    else:
        await stage.until(await stage.submit_one(fault, f"block {3 * ACK_S}"), "STARTED")
    task_ids = await stage.submit(fault, *["sleep 0"] * 3)
    for task_id in task_ids:
        await stage.until(task_id, "HANDED_BACK")
    spare = await stage.worked(other, fault, capacity=4)
    await stage.ended(*task_ids)
    if fault == "frozen":
        agent.signal(signal.SIGCONT)
    await asyncio.to_thread(spare.kill)
    # What it is given next comes after all that waited for it.
    after = await stage.submit_one(fault, "sleep 0")
    await stage.until(after, "COMPLETED")

    for task_id in task_ids:
        assert (await stage.task(task_id)).result.data == f"{other} 1".encode()
        assert task_id not in agent.output()
    assert f"began {after}" in agent.output()


async def test_f41_a_router_that_stands_still_costs_no_agent_its_lease_or_its_place(
    stage: Stage,
) -> None:
    """All agents of the router fall silent at once, to the scheduler and to the registry."""
    wire = stage.wire()
    names = [f"f41-{number}" for number in range(20)]
    log = stage.suite.log_dir / "agent_registry.log"
    assigns = []
    # They renew until then, each at moments of its own: not all leases run out at once.
    async with AsyncExitStack() as beats:
        for name in names:
            await wire.hello(name, "f41")
            await beats.enter_async_context(beating(wire, name))
        task_ids = await stage.submit("f41", count=20)
        for name in names:
            assigns.append((name, (await wire.until(name, "assign"))[0]))
            await wire.ack(*assigns[-1])
            await beats.enter_async_context(beating(wire, *assigns[-1]))
        for task_id in task_ids:
            await stage.until(task_id, "STARTED")
        alerts = log.read_text("utf-8").count("their grace is extended")
        async with watched(stage, *names) as told:
            await beats.aclose()
            with frozen(stage, "routing"):
                await asyncio.sleep(LEASE_S + 0.5)
                await eventually(lambda: log.read_text("utf-8").count("grace is extended") > alerts)
            for name, assign in assigns:
                await wire.result(name, assign)
            await stage.ended(*task_ids)

    for task_id in task_ids:
        assert await stage.story(task_id) == WHOLE
    assert LOST not in [v.verdict for n in names for r in wire.of(n, "ready") for v in r.verdicts]
    assert OFFLINE not in told


async def test_f41_a_registry_that_stands_still_holds_no_silence_against_anyone(
    stage: Stage,
) -> None:
    names = [f"f41-there-{number}" for number in range(3)]
    for name in names:
        await stage.worked(name, "f41-there")
    for name in names:
        await stage.until_status(name, "IDLE")
    done: list[str] = []
    loop = asyncio.get_running_loop()
    async with watched(stage, *names) as told:
        with frozen(stage, "agent_registry"):
            until_s = loop.time() + GRACE_S + 1.0
            while loop.time() < until_s:
                task_ids = await stage.submit("f41-there", *["sleep 0.02"] * 6)
                await stage.ended(*task_ids)
                done += task_ids
        for name in names:
            await stage.until_status(name, "IDLE", "BUSY")
        done.append(await stage.submit_one("f41-there", "sleep 0"))
        await stage.ended(done[-1])

    for task_id in done:
        assert await stage.story(task_id) == WHOLE
    assert OFFLINE not in told
