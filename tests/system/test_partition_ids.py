"""Calls about tasks of several partitions are answered as if there were but one."""

from __future__ import annotations

from collections import Counter

import pytest

from podium.v1 import event_pb2, task_pb2, task_scheduler_pb2
from podium.v1.task_pb2 import Task
from services.task_scheduler.servicer.relay import PARTITION_KEY
from tests.system.test_partition_pages import killed_off
from tests.system.test_partitions import TENANTS, Start, even, start, submitted
from tests.system.test_takeover import Replica
from tests.task_scheduler.serving import refusal, spec

__all__ = ["start"]  # a fixture

pb = task_scheduler_pb2
ELSEWHERE = "01-01a2293e4780-0000000999"
"""An id of no task."""
KINDS = [
    event_pb2.Event.TYPE_CREATED,
    event_pb2.Event.TYPE_QUEUED,
    event_pb2.Event.TYPE_CANCELED,
]


@pytest.fixture
async def replica(start: Start) -> Replica:
    """One of two, so that some of the partitions are the other's."""
    first, second = await start(), await start()
    await even(first, 2)
    return second


async def state(replica: Replica, task_id: str) -> str:
    return Task.State.Name((await replica.get(task_id)).state).removeprefix("STATE_")


async def test_what_can_be_done_is_done_whatever_state_the_others_are_in(replica: Replica) -> None:
    stub = replica.stub
    here, ended = [await submitted(replica, TENANTS[n]) for n in (0, 1)]
    await stub.CancelTasks(pb.CancelTasksRequest(task_ids=[ended]))

    queued, paused = [await submitted(replica, TENANTS[n]) for n in (0, 1)]
    answer = await stub.PauseTasks(pb.PauseTasksRequest(task_ids=[paused, ended]))
    assert list(answer.task_ids) == [paused]
    answer = await stub.ResumeTasks(pb.ResumeTasksRequest(task_ids=[queued, paused]))
    assert list(answer.task_ids) == [paused]
    assert await state(replica, paused) == "QUEUED"
    answer = await stub.PauseTasks(pb.PauseTasksRequest(task_ids=[ended, here]))
    assert list(answer.task_ids) == [here]
    answer = await stub.CancelTasks(pb.CancelTasksRequest(task_ids=[ended, paused, here]))
    assert list(answer.task_ids) == [paused, here]
    dead = (await killed_off(replica, 2, 1))[0]
    alive = await submitted(replica, TENANTS[3])
    requeued = await stub.RequeueTasks(pb.RequeueTasksRequest(task_ids=[alive, dead]))
    assert (list(requeued.task_ids), list(requeued.refusals)) == ([dead], [])

    # Of one task it still is an error, and none of several is no error.
    refused = await refusal(stub.CancelTasks(pb.CancelTasksRequest(task_ids=[ended])))
    assert refused.reason == "TASK_ENDED"
    answer = await stub.CancelTasks(pb.CancelTasksRequest(task_ids=[ended, here]))
    assert list(answer.task_ids) == []


async def test_why_dead_letters_of_other_partitions_are_refused_is_told(replica: Replica) -> None:
    # One that depends on another dead letter is refused, which is an error of it alone.
    dependent = (await killed_off(replica, 0, 2))[1]
    dead = (await killed_off(replica, 1, 1))[0]

    answer = await replica.stub.RequeueTasks(pb.RequeueTasksRequest(task_ids=[dependent, dead]))

    assert list(answer.task_ids) == [dead]
    assert [(row.reason, row.count) for row in answer.refusals] == [("DEPENDENCY_FAILED", 1)]
    alone = pb.RequeueTasksRequest(task_ids=[dependent])
    assert (await refusal(replica.stub.RequeueTasks(alone))).reason == "DEPENDENCY_FAILED"


async def test_what_is_wrong_with_the_whole_call_is_refused_and_nothing_is_done(
    replica: Replica,
) -> None:
    stub = replica.stub
    dead = [(await killed_off(replica, n, 1))[0] for n in (0, 1)]
    queued = [await submitted(replica, TENANTS[n]) for n in (0, 1)]
    payload = task_pb2.Payload(data=b"new")

    both = pb.RequeueTasksRequest(task_ids=dead, payload=payload)
    refused = await refusal(stub.RequeueTasks(both))
    assert [one.field for one in refused.violations] == ["payload"]
    assert [await state(replica, one) for one in dead] == ["FAILED", "FAILED"]
    many = queued + [f"{n:02x}-01a2293e4780-{i:010d}" for n in range(4) for i in range(250)]
    refused = await refusal(stub.CancelTasks(pb.CancelTasksRequest(task_ids=many)))
    assert [one.field for one in refused.violations] == ["task_ids"]
    wrong = pb.PauseTasksRequest(task_ids=[*queued, "03-NONE"])
    refused = await refusal(stub.PauseTasks(wrong))
    assert [one.field for one in refused.violations] == ["task_id"]
    assert [await state(replica, one) for one in queued] == ["QUEUED", "QUEUED"]
    missing = pb.CancelTasksRequest(task_ids=[*queued, ELSEWHERE])
    assert (await refusal(stub.CancelTasks(missing))).reason == "TASK_NOT_FOUND"


async def test_a_header_that_names_no_partition_is_bad_input(replica: Replica) -> None:
    stub = replica.stub
    for value in ("7", "-1", "9" * 5_000):
        metadata = ((PARTITION_KEY, value),)
        for call in (
            stub.ListPartitions(pb.ListPartitionsRequest(), metadata=metadata),
            stub.ListTasks(pb.ListTasksRequest(), metadata=metadata),
            stub.GetQueueStats(pb.GetQueueStatsRequest(), metadata=metadata),
            anext(aiter(stub.WatchEvents(pb.WatchEventsRequest(), metadata=metadata))),
        ):
            refused = await refusal(call)
            assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "PARTITION_UNKNOWN")


async def test_a_watch_sees_all_its_tasks_whichever_partitions_its_cursor_names(
    replica: Replica,
) -> None:
    stub = replica.stub
    made = [
        await stub.SubmitTasks(pb.SubmitTasksRequest(tasks=[spec(tenant=TENANTS[n])]))
        for n in (0, 1)
    ]
    ids = [answer.task_ids[0] for answer in made]
    # What a submit is answered with names the partition of its own tasks alone.
    cursor = made[1].cursor
    assert cursor.startswith("01-") and "." not in cursor
    await stub.CancelTasks(pb.CancelTasksRequest(task_ids=ids))

    seen: Counter[tuple[str, int]] = Counter()
    request = pb.WatchTasksRequest(task_ids=ids, cursor=cursor)
    async for message in stub.WatchTasks(request, timeout=10):
        seen.update((event.task_id, event.type) for event in message.events)
        cursor = message.cursor
        if len(seen) == len(ids) * len(KINDS):
            break

    assert seen == Counter((task_id, kind) for task_id in ids for kind in KINDS)
    # The cursor that it was given names both, and leads on behind what it has seen.
    assert [part[:3] for part in cursor.split(".")] == ["00-", "01-"]


async def test_each_partition_remembers_request_ids_of_its_own(replica: Replica) -> None:
    made = [await submitted(replica, TENANTS[n], request_id="same") for n in (0, 1)]
    again = [await submitted(replica, TENANTS[n], request_id="same") for n in (0, 1)]

    assert again == made
    assert made[0] != made[1]
