"""What is read is durable: nobody is shown what a crash could still take back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from podium.v1 import task_scheduler_pb2
from podium.v1.task_pb2 import Task
from services.kernel.auth import ANONYMOUS, acting_as
from services.kernel.telemetry import Tracer
from services.task_scheduler.adapters.codec import ProtoCodec
from services.task_scheduler.servicer.drafts import Defaults
from services.task_scheduler.servicer.feed import Feed
from services.task_scheduler.servicer.links import Links
from services.task_scheduler.servicer.service import TaskScheduler
from tests.task_scheduler.test_commit import Desk, started, turns

Read = Callable[[TaskScheduler, str], Awaitable[Any]]


def servicer(desk: Desk) -> TaskScheduler:
    feed = Feed(1_000_000)
    desk.committer.listen(feed.publish)
    return TaskScheduler(
        desk.committer,
        ProtoCodec(),
        feed,
        Links(desk.committer),
        desk.clock,
        Tracer(),
        Defaults(3),
    )


async def get(service: TaskScheduler, task_id: str) -> int:
    request = task_scheduler_pb2.GetTaskRequest(task_id=task_id)
    return (await service.GetTask(request, None)).task.state


async def first_of_list(service: TaskScheduler, task_id: str) -> int:
    response = await service.ListTasks(task_scheduler_pb2.ListTasksRequest(), None)
    return response.tasks[-1].state


async def explained(service: TaskScheduler, task_id: str) -> int:
    request = task_scheduler_pb2.ExplainTaskRequest(task_id=task_id)
    response = await service.ExplainTask(request, None)
    assert [event.type for event in response.events] == [1, 2]
    return response.task.state


async def counted(service: TaskScheduler, task_id: str) -> int:
    response = await service.GetQueueStats(task_scheduler_pb2.GetQueueStatsRequest(), None)
    return response.states[0].state


@pytest.mark.parametrize("read", [get, first_of_list, explained, counted])
async def test_what_happens_while_a_read_waits_is_not_in_its_answer(read: Read) -> None:
    async with started() as desk:
        service = servicer(desk)
        task_id = desk.submit()[0]
        await desk.committer.settled()
        desk.journal.hold()
        desk.submit()
        with acting_as(ANONYMOUS):
            reading = asyncio.ensure_future(read(service, task_id))
        await turns()
        # Not durable before the commit after the one that the read waits for.
        task = desk.core.book.tasks[task_id]
        desk.core.control.cancel(task, "", desk.clock.now())
        desk.committer.wake()
        await turns()
        desk.journal.sync()
        desk.journal.hold()

        assert await reading == Task.STATE_QUEUED
        desk.journal.sync()
