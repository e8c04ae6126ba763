"""Pauses, children and concurrency keys over the wire."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from podium.v1 import task_scheduler_pb2
from podium.v1.task_pb2 import Task, TaskFilter
from services.kernel.errors import FailedPrecondition, InvalidArgument, NotFound
from tests.task_scheduler.serving import Served, lease, refusal, spec, wire
from tests.task_scheduler.test_tenancy import Act, act

__all__ = ["act"]  # a fixture


async def pause(served: Served, *task_ids: str, **parts: Any) -> list[str]:
    request = task_scheduler_pb2.PauseTasksRequest(task_ids=task_ids, **parts)
    return list((await served.stub.PauseTasks(request)).task_ids)


async def resume(served: Served, *task_ids: str, **parts: Any) -> list[str]:
    request = task_scheduler_pb2.ResumeTasksRequest(task_ids=task_ids, **parts)
    return list((await served.stub.ResumeTasks(request)).task_ids)


async def stats(served: Served) -> task_scheduler_pb2.GetQueueStatsResponse:
    return await served.stub.GetQueueStats(task_scheduler_pb2.GetQueueStatsRequest())


async def test_a_paused_task_waits_until_it_is_resumed(served: Served) -> None:
    held, free = await served.submit(spec(), spec())
    assert await pause(served, held, reason="later") == [held]
    async with served.router("work") as router:
        assert (await router.grant()).task_id == free
        assert (await served.get(held)).state == Task.STATE_PAUSED

        assert await resume(served, held) == [held]
        assert (await router.grant()).task_id == held


async def test_a_running_task_is_stopped_and_goes_on_without_a_failure(served: Served) -> None:
    task_id = (await served.submit(spec()))[0]
    async with served.router("work") as router:
        grant = await router.grant()
        await router.start(grant)
        assert await pause(served, task_id) == [task_id]
        revoke = (await router.next("revoke")).revoke
        assert (revoke.lease, revoke.reason) == (lease(grant), "PAUSED")

        await resume(served, task_id)
        again = await router.grant()
        assert again.attempt == 2
        assert (await router.complete(again)).lease == lease(again)

    task = await served.get(task_id)
    assert (task.state, task.HasField("failure")) == (Task.STATE_COMPLETED, False)


async def test_tasks_are_paused_and_resumed_by_filter(served: Served) -> None:
    ids = await served.submit(spec("one"), spec("one"), spec("two"))

    assert set(await pause(served, filter=TaskFilter(type="one"))) == set(ids[:2])
    assert await pause(served, filter=TaskFilter(type="one")) == []
    assert set(await resume(served, filter=TaskFilter())) == set(ids[:2])


async def test_what_cannot_be_paused_or_resumed_is_said(served: Served) -> None:
    task_id = (await served.submit(spec()))[0]

    error = await refusal(resume(served, task_id))
    assert (type(error), error.reason) == (FailedPrecondition, "TASK_NOT_PAUSED")
    await pause(served, task_id)
    error = await refusal(pause(served, task_id))
    assert (type(error), error.reason) == (FailedPrecondition, "TASK_NOT_PAUSABLE")
    error = await refusal(pause(served, "no-such-task"))
    assert (type(error), error.reason) == (NotFound, "TASK_NOT_FOUND")
    assert type(await refusal(pause(served))) is InvalidArgument


async def test_a_type_is_paused_and_shown_and_resumed(served: Served) -> None:
    request = {"type": "work"}
    await served.stub.PauseQueue(
        task_scheduler_pb2.PauseQueueRequest(**request, reason="maintenance")
    )
    task_id = (await served.submit(spec()))[0]
    assert [(one.type, one.reason) for one in (await stats(served)).pauses] == [
        ("work", "maintenance")
    ]
    explain = task_scheduler_pb2.ExplainTaskRequest(task_id=task_id)
    told = (await served.stub.ExplainTask(explain)).waiting_for
    assert told == "It is held by a pause of type work. maintenance"

    async with served.router("work") as router:
        await served.stub.ResumeQueue(task_scheduler_pb2.ResumeQueueRequest(**request))
        assert (await router.grant()).task_id == task_id

    error = await refusal(served.stub.ResumeQueue(task_scheduler_pb2.ResumeQueueRequest(**request)))
    assert (type(error), error.reason) == (NotFound, "PAUSE_NOT_FOUND")


@pytest.mark.parametrize("parts", [{}, {"type": "No Type"}, {"tenant": "no tenant"}])
async def test_a_pause_must_name_something(wired: Served, parts: dict[str, str]) -> None:
    request = task_scheduler_pb2.PauseQueueRequest(**parts)

    assert type(await refusal(wired.stub.PauseQueue(request))) is InvalidArgument


async def test_a_stranger_pauses_nothing_of_others(served: Served, act: Act) -> None:
    act("red", "submitter", "reader")
    task_id = (await served.submit(spec()))[0]
    act("blue", "submitter", "reader")

    assert (await refusal(pause(served, task_id))).reason == "TASK_NOT_FOUND"
    assert await pause(served, filter=TaskFilter()) == []


async def test_the_queue_of_a_key_is_shown(served: Served) -> None:
    keyed = [spec(concurrency_keys=["gpu"], concurrency_limit=2) for _ in range(5)]
    await served.submit(*keyed)
    async with served.router("work") as router:
        grants = [await router.grant() for _ in range(2)]
        (key,) = (await stats(served)).concurrency_keys
        assert (key.key, key.tenant, key.limit) == ("gpu", "default", 2)
        assert (key.running_count, key.waiting_count) == (2, 3)
        waiting = [t for t in await all_tasks(served) if t.state == Task.STATE_QUEUED]
        explain = task_scheduler_pb2.ExplainTaskRequest(task_id=waiting[0].task_id)
        assert "under the key gpu" in (await served.stub.ExplainTask(explain)).waiting_for

        await router.complete(grants[0])
        assert (await router.grant()).task_id in {task.task_id for task in waiting}


async def all_tasks(served: Served) -> list[Task]:
    return list((await served.stub.ListTasks(task_scheduler_pb2.ListTasksRequest())).tasks)


async def test_the_limit_of_a_key_holds_across_a_restart(tmp_path: Path) -> None:
    async with wire(tmp_path) as served, served.router("work") as router:
        await served.submit(*[spec(concurrency_keys=["gpu"]) for _ in range(3)])
        held = lease(await router.grant())
    async with wire(tmp_path) as served, served.router("work", held=[held]):
        await served.submit(spec(concurrency_keys=["gpu"]))
        (key,) = (await stats(served)).concurrency_keys

    assert (key.running_count, key.waiting_count) == (1, 3)


async def test_tenants_are_shown_with_what_they_used(served: Served, act: Act) -> None:
    act("red", "submitter", "reader", "service")
    async with served.router("work") as router:
        await served.run(router)
        await served.submit(spec(), spec("other"))
    act("blue", "submitter", "reader")
    await served.submit(spec())
    assert [one.tenant for one in (await stats(served)).tenants] == ["blue"]

    act("admin", "operator", "reader")
    red, blue = (await stats(served)).tenants
    assert (red.tenant, red.open_count, red.weight) == ("red", 2, 1.0)
    assert (blue.tenant, blue.open_count, blue.waiting_count) == ("blue", 1, 1)


async def test_canceling_a_parent_cancels_its_children_unless_they_are_kept(
    served: Served,
) -> None:
    parents = await served.submit(spec(), spec())
    children = [(await served.submit(spec(parent_task_id=parent)))[0] for parent in parents]
    for parent, keep in zip(parents, (False, True), strict=True):
        request = task_scheduler_pb2.CancelTasksRequest(task_ids=[parent], keep_children=keep)
        response = await served.stub.CancelTasks(request)
        assert list(response.task_ids) == [parent]
        assert response.descendant_count == int(not keep)

    states = [(await served.get(child)).state for child in children]
    assert states == [Task.STATE_CANCELED, Task.STATE_QUEUED]
    child = await served.get(children[1])
    assert (child.root_task_id, child.depth) == (parents[1], 1)


async def test_another_tenants_task_is_no_dependency_and_no_parent(
    served: Served, act: Act
) -> None:
    act("red", "submitter", "reader")
    foreign = (await served.submit(spec()))[0]
    act("blue", "submitter", "reader")

    errors = [
        await refusal(served.submit(spec(depends_on=[foreign]))),
        await refusal(served.submit(spec(parent_task_id=foreign))),
    ]
    assert [(type(error), error.reason) for error in errors] == [
        (NotFound, "DEPENDENCY_NOT_FOUND"),
        (NotFound, "PARENT_NOT_FOUND"),
    ]


async def test_a_parent_that_has_ended_passes_a_cancel_on(served: Served) -> None:
    async with served.router("work") as router:
        (parent,) = await served.submit(spec())
        grant = await router.grant()
        await router.start(grant)
        (child,) = await served.submit(spec("other", parent_task_id=parent))
        await router.complete(grant)
    request = task_scheduler_pb2.CancelTasksRequest(task_ids=[parent])

    response = await served.stub.CancelTasks(request)

    assert (list(response.task_ids), response.descendant_count) == ([], 1)
    assert (await served.get(child)).state == Task.STATE_CANCELED
    assert (await refusal(served.stub.CancelTasks(request))).reason == "TASK_ENDED"
