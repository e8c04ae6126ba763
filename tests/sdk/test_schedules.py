from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from podium.sdk.client import Client
from podium.sdk.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from podium.v1.schedule_pb2 import Schedule
from tests.sdk.fakes import settings
from tests.task_scheduler.serving import wire


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with (
        wire(tmp_path) as served,
        Client(settings(task_scheduler=served.address), inline=True) as client,
    ):
        yield client


async def test_a_schedule_is_made_once(client: Client) -> None:
    async def create(priority: int) -> Schedule:
        return await client.schedules.create(
            *("nightly", "30 2 * * *", "report.make", {"depth": 2}),
            time_zone="Europe/Berlin",
            overlap="cancel_running",
            catch_up="none",
            catch_up_window_s=600.0,
            priority=priority,
        )

    made = await create(7)
    assert (made.overlap, made.catch_up) == (
        Schedule.OVERLAP_CANCEL_RUNNING,
        Schedule.CATCH_UP_NONE,
    )
    assert (made.catch_up_window.seconds, made.time_zone) == (600, "Europe/Berlin")
    assert (made.spec.priority, made.spec.payload.data) == (7, b'{"depth":2}')
    assert (await create(7)).create_time == made.create_time
    with pytest.raises(AlreadyExists):
        await create(8)
    with pytest.raises(InvalidArgument, match="cron"):
        await client.schedules.create("other", "every day", "report.make")


async def test_a_schedule_is_paused_resumed_and_deleted(client: Client) -> None:
    await client.schedules.create("nightly", "@daily", "report.make")

    assert (await client.schedules.pause("nightly")).paused
    assert not (await client.schedules.resume("nightly")).paused
    await client.schedules.delete("nightly")
    with pytest.raises(NotFound):
        await client.schedules.get("nightly")


async def test_all_schedules_are_listed(client: Client) -> None:
    names = [f"s-{number:03d}" for number in range(105)]
    for name in names:
        await client.schedules.create(name, "@daily", "report.make")

    # More than a page.
    assert [each.schedule_id async for each in client.schedules.list()] == names
    assert (await client.schedules.get("s-007")).cron == "@daily"


async def test_a_schedule_is_changed_in_place(client: Client) -> None:
    await client.schedules.create(
        "nightly", "@daily", "report.make", {"depth": 2}, priority=7, time_zone="Asia/Tokyo"
    )

    changed = await client.schedules.update(
        "nightly", cron="@weekly", overlap="allow", catch_up_window_s=60.0, labels={"a": "b"}
    )
    assert (changed.cron, changed.overlap) == ("@weekly", Schedule.OVERLAP_ALLOW)
    assert (changed.time_zone, changed.catch_up_window.seconds) == ("Asia/Tokyo", 60)
    task = changed.spec
    assert (task.priority, dict(task.labels), task.payload.data) == (7, {"a": "b"}, b'{"depth":2}')
    emptied = await client.schedules.update("nightly", payload=None, task_type="report.drop")
    assert (emptied.spec.type, emptied.spec.payload.data) == ("report.drop", b"")
    assert await client.schedules.update("nightly") == emptied
    with pytest.raises(NotFound):
        await client.schedules.update("other", cron="@daily")


async def test_a_task_is_made_at_once(client: Client) -> None:
    await client.schedules.create("nightly", "@daily", "report.make")

    task_id = await client.schedules.trigger("nightly", request_id="once")

    assert (await client.get(task_id)).spec.schedule_id == "nightly"
    assert await client.schedules.trigger("nightly", request_id="once") == task_id
    with pytest.raises(FailedPrecondition, match="has not ended"):
        await client.schedules.trigger("nightly")
