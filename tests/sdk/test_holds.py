from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from podium.sdk.client import Client
from podium.sdk.errors import FailedPrecondition, NotFound
from podium.v1 import task_pb2
from tests.sdk.fakes import settings
from tests.task_scheduler.serving import wire

State = task_pb2.Task.State


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with (
        wire(tmp_path) as served,
        Client(settings(task_scheduler=served.address), inline=True) as client,
    ):
        yield client


async def test_tasks_are_paused_and_resumed(client: Client) -> None:
    task, other = await client.submit("a.b"), await client.submit("c.d")
    of_type = task_pb2.TaskFilter(type="a.b")

    assert list(await client.holds.pause(filter=of_type, reason="wait")) == [task.task_id]
    assert (await client.get(task.task_id)).state == State.STATE_PAUSED
    assert (await client.get(other.task_id)).state == State.STATE_QUEUED
    assert list(await client.holds.resume([task.task_id])) == [task.task_id]
    with pytest.raises(FailedPrecondition, match="not paused"):
        await client.holds.resume([task.task_id])


async def test_a_type_and_a_tenant_are_paused_and_resumed(client: Client) -> None:
    await client.holds.pause_queue(task_type="a.b", tenant="acme", reason="too much mail")

    (pause,) = (await client.queue_stats()).pauses
    assert (pause.type, pause.tenant, pause.reason) == ("a.b", "acme", "too much mail")

    with pytest.raises(NotFound):
        await client.holds.resume_queue(task_type="a.b")
    await client.holds.resume_queue(task_type="a.b", tenant="acme")
    assert not (await client.queue_stats()).pauses


async def test_children_are_left_alone_when_that_is_asked_for(client: Client) -> None:
    parent = await client.submit("a.b")
    child = await client.submit("a.b", parent_task_id=parent.task_id)

    await client.cancel([parent.task_id], keep_children=True)

    assert (await client.get(child.task_id)).state == State.STATE_QUEUED


async def test_what_is_skipped_and_what_a_key_allows_is_passed_on(client: Client) -> None:
    first = await client.submit("a.b")
    waiting = await client.submit(
        *("a.b", "text"),
        depends_on=[first.task_id],
        on_failed_dependency="skip",
        concurrency_keys=["gpu"],
        concurrency_limit=3,
    )

    spec = (await client.get(waiting.task_id)).spec
    assert spec.dependency_policy == task_pb2.DEPENDENCY_POLICY_SKIP
    assert (list(spec.concurrency_keys), spec.concurrency_limit) == (["gpu"], 3)
    await client.cancel([first.task_id])
    assert (await client.get(waiting.task_id)).state == State.STATE_CANCELED
