"""Several schedulers at work on one database: each owns some partitions, and all answer for all."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from podium.sdk import specs
from podium.sdk.agent import Agent
from podium.sdk.client import Client
from podium.sdk.handle import TaskHandle
from podium.sdk.host import AgentHost
from podium.sdk.settings import Settings
from podium.v1 import event_pb2, task_pb2, task_scheduler_pb2
from podium.v1.task_pb2 import Task
from services.kernel.rpc import from_rpc_error
from tests.support.processes import Processes
from tests.support.waiting import eventually
from tests.system.tenants import tenants_by_partition
from tests.system.test_takeover import FOR_EVER, Replica, Start, replicas
from tests.task_scheduler.serving import refusal, spec
from tests.task_scheduler.test_recovery import whole_log

COUNT = 4
TERMINAL = {event_pb2.Event.TYPE_COMPLETED, event_pb2.Event.TYPE_CANCELED}
pb = task_scheduler_pb2


TENANTS = tenants_by_partition(COUNT)


@pytest.fixture
async def start(processes: Processes, postgres_url: str, tmp_path: Path) -> AsyncIterator[Start]:
    async with replicas(processes, postgres_url, tmp_path, COUNT) as made:
        yield made


async def owners(replica: Replica, *, positions: bool = False) -> list[Any]:
    request = pb.ListPartitionsRequest(positions=positions)
    return list((await replica.stub.ListPartitions(request, timeout=10)).partitions)


async def shares(replica: Replica) -> dict[str, int]:
    """Returns how many partitions each replica owns, as one of them sees it."""
    return Counter(one.owner_address for one in await owners(replica))


async def even(replica: Replica, count: int, within_s: float = 20.0) -> None:
    """Waits until so many replicas own all partitions in even shares."""

    async def is_even() -> bool:
        try:
            found = await shares(replica)
            if "" in found or sorted(found.values()) != [COUNT // count] * count:
                return False
            await replica.stub.GetQueueStats(pb.GetQueueStatsRequest())
        except grpc.aio.AioRpcError as error:
            assert from_rpc_error(error).code == "UNAVAILABLE", error
            return False
        return True

    await eventually(is_even, within_s=within_s)


async def submitted(replica: Replica, tenant: str, request_id: str = "") -> str:
    """Submits until it is answered, as clients do."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return (await replica.submit(spec(tenant=tenant, request_id=request_id)))[0]
        except grpc.aio.AioRpcError as error:
            assert from_rpc_error(error).code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"), error
            assert time.monotonic() < deadline, error
            await asyncio.sleep(0.02)


def in_order(events: list[event_pb2.Event]) -> None:
    """Checks that the log of each partition is there, each event once and in order."""
    logs: dict[int, list[int]] = {}
    for event in events:
        logs.setdefault(event.partition, []).append(event.seq)
    assert sorted(logs) == list(range(COUNT))
    for seqs in logs.values():
        assert seqs == list(range(1, len(seqs) + 1))


async def test_who_joins_gets_a_share_and_who_stops_gives_it_back_at_once(start: Start) -> None:
    first = await start(**FOR_EVER)
    assert await shares(first) == {f"127.0.0.1:{first.port}": COUNT}
    before = [await submitted(first, tenant) for tenant in TENANTS]
    second = await start(**FOR_EVER)
    await even(second, 2)
    assert await shares(first) == await shares(second)
    after = [await submitted(second, tenant) for tenant in TENANTS]

    first.process.signal(signal.SIGTERM)
    await even(second, 1)

    assert first.process.wait() == 0
    for task_id in before + after:
        assert (await second.get(task_id)).task_id == task_id
    in_order(await whole_log(second))


async def test_any_replica_answers_for_all_partitions(start: Start) -> None:
    first, second = await start(), await start()
    await even(first, 2)
    ids = [await submitted(first, tenant) for tenant in TENANTS for _ in range(3)]
    assert {task_id[:2] for task_id in ids} == {f"{number:02x}" for number in range(COUNT)}

    for replica in (first, second):
        assert [(await replica.get(task_id)).task_id for task_id in ids] == ids
        assert await listed(replica, 5) == sorted(ids, key=lambda one: one[3:], reverse=True)
        stats = await replica.stub.GetQueueStats(pb.GetQueueStatsRequest())
        assert [(row.state, row.count) for row in stats.states] == [(Task.STATE_QUEUED, len(ids))]
        assert {row.tenant for row in stats.tenants} == set(TENANTS)
        in_order(await whole_log(replica))
        checked = [await verified(replica)]
        assert [sorted(one) for one in checked] == [list(range(COUNT))]
    canceled = await second.stub.CancelTasks(pb.CancelTasksRequest(task_ids=ids[:4]))
    assert sorted(canceled.task_ids) == sorted(ids[:4])
    everything = pb.CancelTasksRequest(filter=task_pb2.TaskFilter(type="work"))
    canceled = await first.stub.CancelTasks(everything)
    assert sorted(canceled.task_ids) == sorted(ids[4:])
    spanning = pb.SubmitTasksRequest(tasks=[spec(tenant=TENANTS[0]), spec(tenant=TENANTS[1])])
    refused = await refusal(first.stub.SubmitTasks(spanning))
    assert (refused.reason, refused.metadata) == ("BATCH_SPANS_PARTITIONS", {"index": "1"})


async def listed(replica: Replica, size: int) -> list[str]:
    """Returns the ids of all tasks, page by page."""
    found: list[str] = []
    request = pb.ListTasksRequest(page_size=size)
    while True:
        page = await replica.stub.ListTasks(request)
        assert len(page.tasks) <= size
        found += [task.task_id for task in page.tasks]
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


async def verified(replica: Replica) -> dict[int, int]:
    """Follows the chains of all partitions; returns how far each was checked."""
    found: dict[int, int] = {}
    request = pb.VerifyLogRequest()
    while True:
        answer = await replica.stub.VerifyLog(request)
        assert answer.checked_seq == answer.durable_seq
        found[answer.partition] = answer.checked_seq
        request.cursor = answer.next_cursor
        if not request.cursor:
            return found


async def test_a_queue_is_paused_and_schedules_are_kept_in_all_partitions(start: Start) -> None:
    first, second = await start(), await start()
    await even(first, 2)
    await first.stub.PauseQueue(pb.PauseQueueRequest(type="work"))
    stats = await second.stub.GetQueueStats(pb.GetQueueStatsRequest())
    assert [(pause.tenant, pause.type) for pause in stats.pauses] == [("", "work")]
    await second.stub.ResumeQueue(pb.ResumeQueueRequest(type="work"))
    refused = await refusal(first.stub.ResumeQueue(pb.ResumeQueueRequest(type="work")))
    assert refused.reason == "PAUSE_NOT_FOUND"

    for tenant in TENANTS:
        request = pb.CreateScheduleRequest()
        request.schedule.schedule_id, request.schedule.cron = "nightly", "0 3 * * *"
        request.schedule.spec.CopyFrom(spec(tenant=tenant))
        await first.stub.CreateSchedule(request)
    found, asked = [], pb.ListSchedulesRequest(page_size=1)
    while True:
        page = await second.stub.ListSchedules(asked)
        found += [one.tenant for one in page.schedules]
        asked.page_token = page.next_page_token
        if not asked.page_token:
            break
    assert found == sorted(TENANTS)
    mine = pb.GetScheduleRequest(schedule_id="nightly", tenant=TENANTS[2])
    assert (await second.stub.GetSchedule(mine)).schedule.tenant == TENANTS[2]


async def test_when_an_owner_is_killed_the_others_take_over_and_nothing_is_lost_or_done_twice(
    start: Start, processes: Processes, tmp_path: Path
) -> None:
    first, second = await start(), await start()
    await even(first, 2)
    router = processes.python(
        "-m",
        "services.routing",
        environ={
            "PODIUM_ROUTING_PORT": "0",
            "PODIUM_METRICS_PORT_OFFSET": "0",
            "PODIUM_OTLP_ENDPOINT": "off",
            "PODIUM_DATA_DIR": str(tmp_path),
            "PODIUM_AGENT_REGISTRY_ADDRESS": "127.0.0.1:9",
            "PODIUM_ML_ROUTER_ADDRESS": "127.0.0.1:9",
            "PODIUM_TASK_SCHEDULER_ADDRESS": f"127.0.0.1:{second.port},127.0.0.1:{first.port}",
        },
    )
    port = int(router.wait_for(r"listening on [\d.]+:(\d+)")[1])
    settings = Settings(
        routing=f"127.0.0.1:{port}",
        task_scheduler=f"127.0.0.1:{second.port}",
        otlp_endpoint="off",
    )
    agent = Agent("worker", agent_id="worker", capacity=8)

    @agent.handles("work")
    async def work(text: str) -> str:
        return text

    async with AgentHost([agent], settings=settings), Client(settings) as client:
        handles = await submitted_by(client)
        results = await asyncio.gather(*(handle.result() for handle in handles))
        assert len(results) == len(handles)
        # One that follows all partitions goes on from its cursor over the takeover.
        following = Following(second)
        await eventually(lambda: following.seen)
        first.process.signal(signal.SIGKILL)
        more = await submitted_by(client)
        results = await asyncio.gather(*(handle.result() for handle in more))
        assert len(results) == len(more)

    await even(second, 1)
    events = await whole_log(second)
    in_order(events)
    ends = Counter(event.task_id for event in events if event.type in TERMINAL)
    assert ends == Counter(handle.task_id for handle in handles + more)
    await eventually(lambda: len(following.seen) == len(events))
    in_order(following.seen)
    following.task.cancel()


async def submitted_by(client: Client) -> list[TaskHandle]:
    """Submits ten tasks of each tenant at once, as a program that serves several does."""
    pending = []
    for tenant in TENANTS * 10:
        one = specs.build("work", tenant, {})
        one.tenant = tenant
        pending.append(client.submit_soon(one))
    return await asyncio.gather(*pending)


class Following:
    """A follower of all partitions that goes on from its cursor whenever its stream ends."""

    def __init__(self, replica: Replica, cursor: str = "") -> None:
        self.seen: list[event_pb2.Event] = []
        self.cursor = cursor
        self._replica = replica
        self.task = asyncio.ensure_future(self._follow())

    async def _follow(self) -> None:
        while True:
            request = pb.WatchEventsRequest(cursor=self.cursor)
            try:
                async for message in self._replica.stub.WatchEvents(request):
                    self.seen += message.events
                    self.cursor = message.cursor
            except grpc.aio.AioRpcError as error:
                assert from_rpc_error(error).code == "UNAVAILABLE", error
                await asyncio.sleep(0.02)
