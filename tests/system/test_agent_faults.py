"""What agents and their routers may suffer, and what must come of it; numbered as in the matrix."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from podium.v1 import session_pb2
from podium.v1.session_pb2 import LeaseRef
from podium.v1.task_pb2 import RetryPolicy
from tests.routing.peers import ACCEPTED, FENCED, KEEP
from tests.support.waiting import eventually
from tests.system.stage import AGENT_GRACE_S, LEASE_S, Caller, Stage, beating, network, staged

pytestmark = pytest.mark.asyncio(loop_scope="module")

WHOLE = ["CREATED", "QUEUED", "ASSIGNED", "STARTED", "COMPLETED"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def suite(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path_factory.mktemp("faults")) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def stage(suite: Stage) -> AsyncIterator[Stage]:
    yield suite
    await suite.leave()


async def taken(stage: Stage, wire: Caller, agent_id: str, task_type: str) -> session_pb2.Assign:
    """Submits a task that the agent takes, and returns its Assign."""
    before = len(wire.of(agent_id, "assign"))
    task_id = await stage.submit_one(task_type)
    assign: session_pb2.Assign = (await wire.until(agent_id, "assign", before + 1))[-1]
    await wire.ack(agent_id, assign)
    await stage.until(task_id, "STARTED")
    return assign


def ref(assign: session_pb2.Assign) -> LeaseRef:
    return LeaseRef(task_id=assign.task_id, lease_epoch=assign.lease_epoch)


async def test_f1_the_task_of_a_killed_agent_starts_again_elsewhere(stage: Stage) -> None:
    workers = {name: await stage.worked(name, "f1") for name in ("f1-a", "f1-b")}
    task_id = await stage.submit_one("f1", "first 60")
    first = (await stage.until(task_id, "STARTED")).agent_id
    workers[first].kill()
    second = await stage.until(task_id, "STARTED", 2)
    task = await stage.ended(task_id)

    assert second.agent_id != first
    assert second.attempt == 2
    assert stage.all_of(task_id, "ATTEMPT_FAILED")[0].failed.failure.reason == "AGENT_LOST"
    assert task.result.data == f"{second.agent_id} 2".encode()


async def test_f2_an_agent_that_crashes_natively_spends_attempts_until_there_are_none(
    stage: Stage,
) -> None:
    for name in ("f2-a", "f2-b"):
        await stage.worked(name, "f2")
    task_id = await stage.submit_one("f2", "crash", retry_policy=RetryPolicy(max_retries=1))
    task = await stage.ended(task_id)

    assert task.failure.reason == "AGENT_LOST"
    assert len({event.agent_id for event in stage.all_of(task_id, "STARTED")}) == 2


async def test_f5_an_attempt_that_makes_no_progress_is_stopped_at_its_limit(stage: Stage) -> None:
    worker = await stage.worked("f5", "f5")
    task_id = await stage.submit_one(
        "f5",
        "sleep 60",
        attempt_timeout=Duration(nanos=400_000_000),
        retry_policy=RetryPolicy(max_retries=0),
    )
    task = await stage.ended(task_id)
    after = await stage.submit_one("f5", "sleep 0")
    await stage.ended(after)

    assert task.failure.reason == "ATTEMPT_TIMEOUT"
    assert "ended " + task_id not in worker.output()


async def test_f6_a_connection_that_breaks_within_the_lease_costs_nothing(stage: Stage) -> None:
    async with network(stage) as net:
        await stage.worked("f6", "f6", routing=net.address)
        task_id = await stage.submit_one("f6", "sleep 1.5")
        await stage.until(task_id, "STARTED")
        for _ in range(3):
            before = net.accepted
            net.cut()
            await eventually(lambda: net.accepted > before)  # noqa: B023 - awaited in this turn
        await stage.ended(task_id)
        assert net.accepted > 3

    assert await stage.story(task_id) == WHOLE


async def test_f6_a_result_made_while_the_network_is_away_is_not_lost(stage: Stage) -> None:
    async with network(stage) as net:
        worker = await stage.worked("f6-late", "f6-late", routing=net.address)
        task_id = await stage.submit_one("f6-late", "sleep 0.2")
        await stage.until(task_id, "STARTED")
        net.freeze()
        await eventually(lambda: "ended" in worker.output())
        net.cut()
        net.heal()
        await stage.ended(task_id)

    assert await stage.story(task_id) == WHOLE


async def test_f7_who_comes_back_is_told_lease_by_lease_what_is_left(stage: Stage) -> None:
    wire = stage.wire()
    await wire.hello("f7", "f7", max_concurrency=2)
    over, kept = [await taken(stage, wire, "f7", "f7") for _ in range(2)]
    async with beating(wire, "f7", kept):
        await stage.until(over.task_id, "ATTEMPT_FAILED", within_s=LEASE_S + 5.0)
    await wire.drop()
    wire = stage.wire()
    ready = await wire.hello("f7", "f7", max_concurrency=2, in_flight=[ref(over), ref(kept)])
    await wire.result("f7", over)
    await wire.result("f7", kept)
    await stage.ended(kept.task_id)

    told = {verdict.lease.task_id: verdict.verdict for verdict in ready.verdicts}
    assert told[kept.task_id] == KEEP
    assert told[over.task_id] != KEEP
    settled = {ack.lease.task_id: ack.verdict for ack in await wire.until("f7", "result_ack", 2)}
    assert settled == {over.task_id: FENCED, kept.task_id: ACCEPTED}
    assert await stage.story(kept.task_id) == WHOLE


async def test_f8_of_two_processes_with_one_id_the_newer_works_and_the_older_ends(
    stage: Stage,
) -> None:
    older = await stage.worked("f8", "f8")
    task_id = await stage.submit_one("f8", "first 60")
    await stage.until(task_id, "STARTED")
    newer = await stage.worked("f8", "f8")
    code = await asyncio.to_thread(older.wait)
    await stage.ended(task_id)

    assert code != 0
    assert "started again elsewhere" in older.output()
    assert newer.popen.poll() is None
    assert (await stage.story(task_id)).count("COMPLETED") == 1


async def test_f14_an_assignment_that_nobody_takes_goes_back_without_an_attempt(
    stage: Stage,
) -> None:
    mute, other = stage.wire(), stage.wire()
    await mute.hello("f14-mute", "f14")
    task_id = await stage.submit_one("f14")
    await mute.until("f14-mute", "assign")
    async with beating(mute, "f14-mute"):
        back = await stage.until(task_id, "HANDED_BACK")
    await mute.until("f14-mute", "recall")
    await other.hello("f14-other", "f14")
    assign = (await other.until("f14-other", "assign"))[0]

    assert back.failed.failure.reason == "ACK_TIMEOUT"
    assert assign.attempt == 1
    assert "ATTEMPT_FAILED" not in stage.of(task_id)


async def test_a_host_whose_stream_keeps_breaking_holds_no_task_for_ever(stage: Stage) -> None:
    async with network(stage) as net:
        wire = stage.wire(net.address)
        ready = await wire.hello("flapping", "flap")
        task_id = await stage.submit_one("flap")
        await wire.until("flapping", "assign")
        while not stage.all_of(task_id, "HANDED_BACK"):
            assert "ATTEMPT_FAILED" not in stage.of(task_id)
            await wire.drop()
            await asyncio.sleep(0.2)
            wire = stage.wire(net.address)
            ready = await wire.hello("flapping", "flap", resume_token=ready.resume_token)
            await asyncio.sleep(0.2)

    assert stage.all_of(task_id, "HANDED_BACK")[0].failed.failure.reason == "ACK_TIMEOUT"


async def test_f15_an_agent_that_does_not_read_bounds_itself_and_harms_nobody(
    stage: Stage,
) -> None:
    slow, other = stage.wire(), stage.wire()
    await slow.hello("f15-slow", "f15", max_concurrency=200)
    slow.reading.clear()
    task_ids = []
    for _ in range(3):
        task_ids += await stage.submit("f15", *["x" * 20_000] * 100)
    await other.hello("f15-other", "f15", max_concurrency=50)
    done: set[str] = set()

    async def work() -> None:
        while True:
            for assign in other.of("f15-other", "assign"):
                if assign.task_id not in done:
                    done.add(assign.task_id)
                    await other.ack("f15-other", assign)
                    await other.result("f15-other", assign)
            await asyncio.sleep(0.01)

    working = asyncio.create_task(work())
    await stage.ended(*task_ids, within_s=40.0)
    working.cancel()

    assert len(done) == 300
    for task_id in task_ids:
        assert "ATTEMPT_FAILED" not in await stage.story(task_id)


async def test_f26_without_the_registry_work_goes_on_and_it_knows_all_agents_again(
    stage: Stage,
) -> None:
    await stage.worked("f26", "f26", capacity=4)
    loop = asyncio.get_running_loop()
    done: list[str] = []
    await stage.kill("agent_registry")
    try:
        # For longer than the grace in which it would hold an agent's silence against it.
        until_s = loop.time() + AGENT_GRACE_S + 1.0
        while loop.time() < until_s:
            task_ids = await stage.submit("f26", *["sleep 0.05"] * 4)
            await stage.ended(*task_ids)
            done += task_ids
        await stage.worked("f26-late", "f26-late")
        done.append(await stage.submit_one("f26-late", "sleep 0"))
        await stage.ended(done[-1])
    finally:
        await stage.start("agent_registry")
    for name in ("f26", "f26-late"):
        await stage.until_status(name, "IDLE", "BUSY")

    for task_id in done:
        assert await stage.story(task_id) == WHOLE
