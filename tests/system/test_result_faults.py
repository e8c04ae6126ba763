"""What results may suffer on their way, and what must come of it; numbered as in the matrix."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import grpc.aio
import pytest
import pytest_asyncio

from podium.v1 import routing_pb2, session_pb2, task_scheduler_pb2
from podium.v1.session_pb2 import AgentFrame
from services.kernel.errors import PodiumError
from services.kernel.rpc import from_rpc_error
from tests.routing.peers import ACCEPTED, FENCED
from tests.system.stage import Stage, staged
from tests.system.test_agent_faults import ref, taken

pytestmark = pytest.mark.asyncio(loop_scope="module")

DUPLICATE = session_pb2.ResultAck.VERDICT_DUPLICATE
TERMINAL = {"COMPLETED", "FAILED", "CANCELED", "EXPIRED", "REJECTED"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def suite(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    # A race takes as long as it takes: no lease ends here by itself.
    times = {"PODIUM_LEASE_TTL_S": 15, "PODIUM_ACK_TIMEOUT_S": 10}
    async with staged(tmp_path_factory.mktemp("results"), environ=times) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def stage(suite: Stage) -> AsyncIterator[Stage]:
    yield suite
    await suite.leave()


def ack_of(agent_id: str, assign: session_pb2.Assign) -> AgentFrame:
    return AgentFrame(agent_id=agent_id, ack=session_pb2.Ack(lease=ref(assign)))


async def test_f9_a_result_that_comes_twice_is_settled_once(stage: Stage) -> None:
    wire = stage.wire()
    await wire.hello("f9", "f9")
    assign = await taken(stage, wire, "f9", "f9")
    for number, data in enumerate((b"same", b"same", b"other"), 1):
        await wire.result("f9", assign, data)
        await wire.until("f9", "result_ack", number)
    report = routing_pb2.ReportResultRequest(agent_id="f9")
    report.result.lease.CopyFrom(ref(assign))
    report.result.success.data = b"same"
    unary = await stage.routing.ReportResult(report)
    task = await stage.ended(assign.task_id)

    verdicts = [ack.verdict for ack in wire.of("f9", "result_ack")[:3]]
    assert verdicts == [ACCEPTED, DUPLICATE, session_pb2.ResultAck.VERDICT_CONFLICT]
    assert unary.verdict == DUPLICATE
    assert task.result.data == b"same"
    assert (await stage.story(assign.task_id)).count("COMPLETED") == 1


async def test_f10_of_completion_and_cancel_one_wins_and_the_other_is_told(stage: Stage) -> None:
    wire = stage.wire()
    await wire.hello("f10", "f10", max_concurrency=400)
    task_ids = await stage.submit("f10", count=400)
    assigns = {each.task_id: each for each in await wire.until("f10", "assign", 400)}
    await wire.send(*[ack_of("f10", each) for each in assigns.values()])
    draw = random.Random(10)
    canceled: set[str] = set()
    too_late: dict[str, PodiumError] = {}

    async def cancel(task_id: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        request = task_scheduler_pb2.CancelTasksRequest(task_ids=[task_id])
        try:
            canceled.update((await stage.scheduler.CancelTasks(request)).task_ids)
        except grpc.aio.AioRpcError as error:
            too_late[task_id] = from_rpc_error(error)

    async def finish(task_id: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await wire.result("f10", assigns[task_id])

    races = [
        race(task_id, draw.uniform(0.0, 0.3)) for task_id in task_ids for race in (cancel, finish)
    ]
    await asyncio.gather(*races)
    acks = {each.lease.task_id: each.verdict for each in await wire.until("f10", "result_ack", 400)}
    ends = {task_id: TERMINAL & set(await stage.story(task_id)) for task_id in task_ids}

    completed = {task_id for task_id, verdict in acks.items() if verdict == ACCEPTED}
    assert completed and canceled
    assert completed == {task_id for task_id, end in ends.items() if end == {"COMPLETED"}}
    assert canceled == {task_id for task_id, end in ends.items() if end == {"CANCELED"}}
    assert completed | canceled == set(task_ids)
    assert {acks[task_id] for task_id in canceled} == {FENCED}
    assert too_late.keys() == completed
    told = {(each.code, each.reason, each.metadata["state"]) for each in too_late.values()}
    assert told == {("FAILED_PRECONDITION", "TASK_ENDED", "COMPLETED")}
    report = routing_pb2.ReportResultRequest(agent_id="f10")
    report.result.lease.CopyFrom(ref(assigns[min(canceled)]))
    report.result.success.data = b"too late"
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stage.routing.ReportResult(report)
    refused = from_rpc_error(raised.value)
    assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "STALE_LEASE")
