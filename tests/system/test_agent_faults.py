"""What agents and their routers may suffer, and what must come of it; numbered as in the matrix."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from podium.v1 import session_pb2
from podium.v1.session_pb2 import LeaseRef
from podium.v1.task_pb2 import RetryPolicy
from tests.routing.peers import ACCEPTED, FENCED, KEEP, LOST
from tests.support.waiting import eventually
from tests.system.stage import AGENT_GRACE_S, LEASE_S, Caller, Stage, beating, network, staged

CANCEL = session_pb2.LeaseVerdict.VERDICT_CANCEL
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
    stopped = f"stopped {task_id} ATTEMPT_TIMEOUT"
    await eventually(lambda: stopped in worker.output(), told=worker.output)
    after = await stage.submit_one("f5", "sleep 0")
    await stage.ended(after)

    assert task.failure.reason == "ATTEMPT_TIMEOUT"


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
    wire, other = stage.wire(), stage.wire()
    await wire.hello("f7", "f7", max_concurrency=2)
    over, kept = [await taken(stage, wire, "f7", "f7") for _ in range(2)]
    await other.hello("f7-other", "f7")
    async with beating(wire, "f7", kept):
        again = (await other.until("f7-other", "assign"))[0]
        await other.ack("f7-other", again)
        await stage.until(over.task_id, "STARTED", 2)
    await wire.drop()
    wire = stage.wire()
    ready = await wire.hello("f7", "f7", max_concurrency=2, in_flight=[ref(over), ref(kept)])
    await wire.result("f7", over)
    await wire.result("f7", kept)
    await stage.ended(kept.task_id)

    told = {verdict.lease.task_id: verdict.verdict for verdict in ready.verdicts}
    assert again.task_id == over.task_id
    assert told[kept.task_id] == KEEP
    assert told[over.task_id] in (CANCEL, LOST)
    settled = {ack.lease.task_id: ack.verdict for ack in await wire.until("f7", "result_ack", 2)}
    assert settled == {over.task_id: FENCED, kept.task_id: ACCEPTED}
    assert await stage.story(kept.task_id) == WHOLE
    await other.result("f7-other", again, b"from the other one")
    assert (await stage.ended(over.task_id)).result.data == b"from the other one"


async def test_f7_an_agent_whose_network_was_a_black_hole_stops_what_others_have_by_now(
    stage: Stage,
) -> None:
    async with network(stage) as net:
        worker = await stage.worked("f7-cut", "f7-hole", routing=net.address)
        task_id = await stage.submit_one("f7-hole", "first 60")
        await stage.until(task_id, "STARTED")
        net.freeze()
        await stage.until(task_id, "ATTEMPT_FAILED", within_s=LEASE_S + 5.0)
        other = await stage.worked("f7-there", "f7-hole")
        await stage.ended(task_id)
        net.heal()
        stopped = f"stopped {task_id} LEASE_EXPIRED"
        await eventually(lambda: stopped in worker.output(), told=worker.output)
        await asyncio.to_thread(other.kill)
        await stage.until_status("f7-cut", "IDLE")
        after = await stage.submit_one("f7-hole", "sleep 0")
        assert (await stage.ended(after)).result.data == b"f7-cut 1"

    assert (await stage.task(task_id)).result.data == b"f7-there 2"


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


async def test_f15_agents_that_do_not_read_bound_themselves_and_harm_nobody(stage: Stage) -> None:
    count, size_bytes = 3, 200_000
    await stage.worked("f15-well", "f15-well", capacity=4)
    # Last, since they answer no probe and so are given nothing after a second.
    stalled = stage.started("tests.system.stalled", stage.suite.addresses["routing"], count, "f15")
    await eventually(lambda: stalled.output().count("stalled") == count, told=stalled.output)
    stuck: list[str] = []
    for _ in range(12):
        stuck += await stage.submit("f15", *["x" * size_bytes] * 18)
        well = await stage.submit("f15-well", *["sleep 0"] * 10)
        await stage.ended(*well)
        for task_id in well:
            assert await stage.story(task_id) == WHOLE
    await eventually(lambda: any("HANDED_BACK" in stage.of(task_id) for task_id in stuck))
    await stage.worked("f15-other", "f15", capacity=50)
    await stage.ended(*stuck, within_s=40.0)

    backs = [event for task_id in stuck for event in stage.all_of(task_id, "HANDED_BACK")]
    offered = Counter(each.agent_id for each in backs if each.agent_id)
    # Each has slots for all of them: without a bound the three would share them, 14 MB each. gRPC
    # and TCP take 4 MiB and more on the way to one that does not read (Linux lets a receiver's
    # buffer grow to 6), and no more than 1 MiB waits for it here.
    assert 0 < max(offered.values()) * size_bytes < 10 * 2**20
    for task_id in stuck:
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
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stage.agent("f26")
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        await stage.worked("f26-late", "f26-late")
        done.append(await stage.submit_one("f26-late", "sleep 0"))
        await stage.ended(done[-1])
    finally:
        await stage.start("agent_registry")
    for name in ("f26", "f26-late"):
        await stage.until_status(name, "IDLE", "BUSY")

    for task_id in done:
        assert await stage.story(task_id) == WHOLE
