"""Dead letters over the wire, and filters that mean more than one call takes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from podium.v1 import task_scheduler_pb2
from podium.v1.task_pb2 import Payload, Task, TaskFilter
from services.kernel.clock import SystemClock
from services.kernel.errors import FailedPrecondition
from services.task_scheduler.servicer import choice
from tests.support.waiting import eventually
from tests.task_scheduler.serving import WITHIN_S, Served, in_process, refusal, spec


async def test_dead_letters_are_requeued_by_id_filter_and_with_another_payload(
    served: Served,
) -> None:
    async with served.router("work") as router:
        ids = await served.submit(spec(), spec(), spec())
        for _ in ids:
            await router.fail(await router.grant())
        requeue = served.stub.RequeueTasks
        one = task_scheduler_pb2.RequeueTasksRequest(
            task_ids=ids[:1], payload=Payload(data=b"better")
        )
        assert list((await requeue(one)).task_ids) == ids[:1]
        assert (await router.grant()).spec.payload.data == b"better"
        rest = task_scheduler_pb2.RequeueTasksRequest(filter=TaskFilter(failure_text="bad_input"))
        assert set((await requeue(rest)).task_ids) == set(ids[1:])
        error = await refusal(requeue(one))

    assert (type(error), error.reason) == (FailedPrecondition, "TASK_NOT_DEAD")


async def dead_letters(served: Served, router: Any, count: int, **parts: Any) -> list[str]:
    ids = await served.submit(*[spec(**parts) for _ in range(count)])
    for _ in range(count):
        await router.fail(await router.grant())
    return ids


async def test_dead_letters_requeued_page_by_page_are_all_seen(served: Served) -> None:
    async with served.router("work") as router:
        ids = await dead_letters(served, router, 5)
        request = task_scheduler_pb2.ListTasksRequest(
            filter=TaskFilter(states=[Task.STATE_FAILED]), page_size=2
        )
        seen: list[str] = []
        while True:
            page = await served.stub.ListTasks(request, timeout=WITHIN_S)
            found = [task.task_id for task in page.tasks]
            seen += found
            await served.stub.RequeueTasks(
                task_scheduler_pb2.RequeueTasksRequest(task_ids=found), timeout=WITHIN_S
            )
            request.page_token = page.next_page_token
            if not request.page_token:
                break

    assert seen == ids[::-1]


async def test_a_filter_goes_on_until_all_that_match_were_seen(served: Served, monkeypatch) -> None:
    monkeypatch.setattr(choice, "limits", SimpleNamespace(batch_len_max=2))
    monkeypatch.setattr(choice, "STEP_LEN", 1)
    async with served.router("work") as router:
        ids = await dead_letters(served, router, 5)
    rounds: list[list[str]] = []
    requeue = task_scheduler_pb2.RequeueTasksRequest(filter=TaskFilter(type="work"))
    while True:
        answer = await served.stub.RequeueTasks(requeue, timeout=WITHIN_S)
        rounds.append(list(answer.task_ids))
        requeue.page_token = answer.next_page_token
        if not requeue.page_token:
            break
    assert [one for part in rounds for one in part] == ids
    assert [len(part) for part in rounds[:2]] == [2, 2]

    pause = task_scheduler_pb2.PauseTasksRequest(filter=TaskFilter(type="work"))
    first = await served.stub.PauseTasks(pause, timeout=WITHIN_S)
    assert (list(first.task_ids), bool(first.next_page_token)) == (ids[:2:-1], True)
    other = task_scheduler_pb2.ResumeTasksRequest(
        filter=TaskFilter(type="other"), page_token=first.next_page_token
    )
    assert (await refusal(served.stub.ResumeTasks(other))).reason == "PAGE_TOKEN_INVALID"
    by_id = task_scheduler_pb2.CancelTasksRequest(task_ids=ids, page_token=first.next_page_token)
    assert (await refusal(served.stub.CancelTasks(by_id))).reason == "INVALID_FIELD"
    cancel = task_scheduler_pb2.CancelTasksRequest(filter=TaskFilter(type="work"))
    cancel.page_token = (await served.stub.CancelTasks(cancel)).next_page_token
    assert list((await served.stub.CancelTasks(cancel)).task_ids) == ids[2:0:-1]


async def test_dead_letters_that_are_dropped_are_counted_and_told(tmp_path: Path, caplog) -> None:
    async with in_process(tmp_path, dead_tasks_max=2) as served:
        async with served.router("work") as router:
            await dead_letters(served, router, 3)

        async def stats() -> Any:
            return await served.stub.GetQueueStats(task_scheduler_pb2.GetQueueStatsRequest())

        async def told() -> Any:
            return (said := await stats()).dead_letters_dropped_count and said

        counted = await eventually(told)

        assert counted.dead_letters_dropped_count == 1
        assert counted.dead_letter_bytes > 0
        await eventually(lambda: "1 dead letters were dropped" in caplog.text)


async def test_a_revived_task_shows_the_deadline_that_holds_now(served: Served) -> None:
    async with served.router("work") as router:
        soon, later = Timestamp(), Timestamp()
        soon.FromMilliseconds(SystemClock().now().wall_ms + 60_000)
        later.FromMilliseconds(soon.ToMilliseconds() + 60_123)
        (task_id,) = await dead_letters(served, router, 1, deadline=soon)
        request = task_scheduler_pb2.RequeueTasksRequest(task_ids=[task_id], deadline=later)
        await served.stub.RequeueTasks(request, timeout=WITHIN_S)
        grant = await router.grant()

    assert grant.spec.deadline == later
    assert (await served.get(task_id)).spec.deadline == later
    request.deadline.FromMilliseconds(1)
    error = await refusal(served.stub.RequeueTasks(request))
    assert [one.field for one in error.violations] == ["deadline"]


async def test_a_bulk_requeue_revives_what_it_can_and_says_why_not_the_rest(
    tmp_path: Path,
) -> None:
    async with in_process(tmp_path, tenant_open_tasks={"small": 1}) as served:
        async with served.router("work") as router:
            ids = []
            for _ in range(3):
                ids += await dead_letters(served, router, 1, tenant="small")
            ids += await dead_letters(served, router, 1)
        request = task_scheduler_pb2.RequeueTasksRequest(filter=TaskFilter(type="work"))
        answer = await served.stub.RequeueTasks(request, timeout=WITHIN_S)
        one = task_scheduler_pb2.RequeueTasksRequest(task_ids=ids[1:2])
        error = await refusal(served.stub.RequeueTasks(one))

    assert list(answer.task_ids) == [ids[0], ids[3]]
    (told,) = answer.refusals
    assert (told.reason, told.count) == ("TENANT_BACKLOG_FULL", 2)
    assert told.retry_after.ToMilliseconds() > 0
    assert (error.reason, bool(error.retry_after_s)) == ("TENANT_BACKLOG_FULL", True)
