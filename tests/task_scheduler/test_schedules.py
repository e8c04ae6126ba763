"""Schedules over the wire."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from podium.v1 import event_pb2, schedule_pb2, task_pb2, task_scheduler_pb2
from services.kernel.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)
from tests.task_scheduler.serving import Served, refusal, spec, wire
from tests.task_scheduler.test_tenancy import Act, act

__all__ = ["act"]  # a fixture

Schedule = schedule_pb2.Schedule


def schedule(schedule_id: str = "nightly", **parts: Any) -> Schedule:
    parts.setdefault("cron", "0 3 * * *")
    parts.setdefault("spec", spec())
    return Schedule(schedule_id=schedule_id, **parts)


async def create(served: Served, message: Schedule) -> Schedule:
    request = task_scheduler_pb2.CreateScheduleRequest(schedule=message)
    return (await served.stub.CreateSchedule(request)).schedule


async def get(served: Served, schedule_id: str = "nightly", tenant: str = "") -> Schedule:
    request = task_scheduler_pb2.GetScheduleRequest(schedule_id=schedule_id, tenant=tenant)
    return (await served.stub.GetSchedule(request)).schedule


async def test_a_schedule_tells_what_it_does_and_when(served: Served) -> None:
    made = await create(served, schedule(time_zone="Asia/Tokyo"))

    assert made == await get(served)
    assert (made.tenant, made.overlap, made.catch_up) == (
        "default",
        Schedule.OVERLAP_SKIP,
        Schedule.CATCH_UP_LAST,
    )
    assert made.catch_up_window.seconds == 3600
    assert made.next_time.ToDatetime().hour == 18  # 03:00 in Tokyo
    assert made.spec.payload.data == b"data"
    assert not made.spec.traceparent


async def test_spans_stay_with_the_schedule_and_its_tasks_have_times(served: Served) -> None:
    asked = spec(deadline_after=Duration(seconds=90), delay=Duration(seconds=30))
    made = await create(served, schedule(spec=asked))
    trigger = task_scheduler_pb2.TriggerScheduleRequest(schedule_id="nightly")
    first = await served.get((await served.stub.TriggerSchedule(trigger)).task_id)

    assert (made.spec.deadline_after.seconds, made.spec.delay.seconds) == (90, 30)
    assert not first.spec.HasField("deadline_after") and not first.spec.HasField("delay")
    created_ms = first.create_time.ToMilliseconds()
    assert first.spec.deadline.ToMilliseconds() == created_ms + 90_000
    assert first.spec.not_before.ToMilliseconds() == created_ms + 30_000
    assert first.state == task_pb2.Task.STATE_DELAYED


async def test_the_same_again_is_the_first_and_another_is_refused(served: Served) -> None:
    first = await create(served, schedule())

    assert await create(served, schedule()) == first
    error = await refusal(create(served, schedule(cron="@daily")))
    assert (type(error), error.reason) == (AlreadyExists, "SCHEDULE_EXISTS")


async def test_paused_resumed_and_deleted(served: Served) -> None:
    await create(served, schedule())
    stub, name = served.stub, {"schedule_id": "nightly"}

    paused = await stub.PauseSchedule(task_scheduler_pb2.PauseScheduleRequest(**name))
    assert paused.schedule.paused
    assert not paused.schedule.HasField("next_time")
    resumed = await stub.ResumeSchedule(task_scheduler_pb2.ResumeScheduleRequest(**name))
    assert not resumed.schedule.paused
    assert resumed.schedule.HasField("next_time")
    await stub.DeleteSchedule(task_scheduler_pb2.DeleteScheduleRequest(**name))

    error = await refusal(get(served))
    assert (type(error), error.reason) == (NotFound, "SCHEDULE_NOT_FOUND")


async def test_schedules_are_listed_page_by_page(served: Served) -> None:
    for number in range(5):
        await create(served, schedule(f"s{number}"))
    request = task_scheduler_pb2.ListSchedulesRequest(page_size=2)
    pages = []
    while True:
        page = await served.stub.ListSchedules(request)
        pages.append([one.schedule_id for one in page.schedules])
        assert not any(one.spec.payload.data for one in page.schedules)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token

    assert pages == [["s0", "s1"], ["s2", "s3"], ["s4"]]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
async def test_pages_hold_each_schedule_once_whatever_tenants_are_called(
    wired: Served, act: Act, size: int
) -> None:
    act("op", "operator", "submitter", "reader")
    # Characters on both sides of the slash.
    keys = [(tenant, one) for tenant in ("a", "a-b", "a.c", "a0", "b:c") for one in ("s-1", "s1")]
    for tenant, schedule_id in keys:
        await create(wired, schedule(schedule_id, spec=spec(tenant=tenant)))

    request = task_scheduler_pb2.ListSchedulesRequest(page_size=size)
    found: list[tuple[str, str]] = []
    while len(found) <= len(keys):
        page = await wired.stub.ListSchedules(request)
        found += [(one.tenant, one.schedule_id) for one in page.schedules]
        request.page_token = page.next_page_token
        if not request.page_token:
            break

    assert found == keys


async def test_tenants_do_not_see_each_others_schedules(served: Served, act: Act) -> None:
    act("red", "submitter", "reader")
    await create(served, schedule())
    act("blue", "submitter", "reader")
    assert (await refusal(get(served))).reason == "SCHEDULE_NOT_FOUND"
    assert (await refusal(get(served, tenant="red"))).reason == "SCHEDULE_NOT_FOUND"
    listed = await served.stub.ListSchedules(task_scheduler_pb2.ListSchedulesRequest(tenant="red"))
    assert not listed.schedules
    error = await refusal(create(served, schedule("own", spec=spec(tenant="red"))))
    assert type(error) is PermissionDenied

    act("blue", "operator", "reader")
    assert (await get(served, tenant="red")).tenant == "red"


BAD: list[tuple[dict[str, Any], str]] = [
    ({"schedule_id": "No Such"}, "schedule.schedule_id"),
    ({"cron": "every day"}, "schedule.cron"),
    ({"cron": "61 * * * *"}, "schedule.cron"),
    ({"cron": "* " * 200}, "schedule.cron"),
    ({"time_zone": "Mars/Base"}, "schedule.time_zone"),
    ({"overlap": 99}, "schedule.overlap"),
    ({"catch_up": 99}, "schedule.catch_up"),
    ({"spec": spec("No Type")}, "schedule.spec.type"),
    ({"spec": spec(priority=10)}, "schedule.spec.priority"),
    ({"spec": spec(request_id="one")}, "schedule.spec.request_id"),
    ({"spec": spec(depends_on=["00-1"])}, "schedule.spec.depends_on"),
    ({"spec": spec(concurrency_keys=["schedule/other"])}, "schedule.spec.concurrency_keys[0]"),
]


@pytest.mark.parametrize(("parts", "field"), BAD)
async def test_a_wrong_field_is_named(wired: Served, parts: dict[str, Any], field: str) -> None:
    error = await refusal(create(wired, schedule(**parts)))

    assert (type(error), error.reason) == (InvalidArgument, "INVALID_FIELD")
    assert field in {violation.field for violation in error.violations}


async def test_a_window_of_more_than_a_week_is_too_long(wired: Served) -> None:
    message = schedule()
    message.catch_up_window.FromSeconds(8 * 24 * 3600)

    error = await refusal(create(wired, message))
    assert error.metadata["field"] == "schedule.catch_up_window"


async def test_there_may_be_so_many_schedules(tmp_path: Path) -> None:
    async with wire(tmp_path, schedules_max=1) as served:
        await create(served, schedule())
        error = await refusal(create(served, schedule("another")))

    assert (type(error), error.reason) == (ResourceExhausted, "SCHEDULES_FULL")


async def test_schedules_are_there_after_a_restart(tmp_path: Path) -> None:
    async with wire(tmp_path) as served:
        made = await create(served, schedule(overlap=Schedule.OVERLAP_QUEUE))
        await create(served, schedule("gone"))
        request = task_scheduler_pb2.DeleteScheduleRequest(schedule_id="gone")
        await served.stub.DeleteSchedule(request)

    async with wire(tmp_path) as served:
        again = await get(served)
        listed = await served.stub.ListSchedules(task_scheduler_pb2.ListSchedulesRequest())

    assert again == made
    assert "schedule/nightly" in again.spec.concurrency_keys
    assert len(listed.schedules) == 1


async def test_what_happens_to_schedules_is_in_the_log(served: Served) -> None:
    await create(served, schedule())
    watch = served.stub.WatchEvents(task_scheduler_pb2.WatchEventsRequest(omit_payloads=True))
    events: list[event_pb2.Event] = []
    while not any(event.HasField("schedule") for event in events):
        events += (await asyncio.wait_for(watch.read(), 10)).events
    watch.cancel()

    told = next(event for event in events if event.HasField("schedule"))
    assert told.type == event_pb2.Event.TYPE_SCHEDULE_CREATED
    assert told.tenant == "default"
    assert told.schedule.schedule.spec.type == "work"
    assert not told.schedule.schedule.spec.HasField("payload")


async def test_output_only_fields_of_a_task_are_not_taken_from_a_client(served: Served) -> None:
    asked = spec(schedule_id="nightly")
    asked.schedule_time.FromSeconds(1)
    task_id = (await served.submit(asked))[0]

    kept: task_pb2.TaskSpec = (await served.get(task_id)).spec
    assert (kept.schedule_id, kept.HasField("schedule_time")) == ("", False)


async def update(served: Served, paths: list[str], tenant: str = "", **parts: Any) -> Schedule:
    request = task_scheduler_pb2.UpdateScheduleRequest(
        schedule=Schedule(schedule_id="nightly", **parts),
        update_mask=FieldMask(paths=paths),
        tenant=tenant,
    )
    return (await served.stub.UpdateSchedule(request)).schedule


async def trigger(served: Served, request_id: str = "", tenant: str = "") -> str:
    request = task_scheduler_pb2.TriggerScheduleRequest(
        schedule_id="nightly", request_id=request_id, tenant=tenant
    )
    return (await served.stub.TriggerSchedule(request)).task_id


CHANGES: list[tuple[list[str], dict[str, Any], dict[str, Any]]] = [
    (["cron"], {"cron": "@weekly", "time_zone": "Asia/Tokyo"}, {"cron": "@weekly"}),
    ([], {"cron": "@weekly", "overlap": "OVERLAP_ALLOW"}, {"cron": "@weekly", "overlap": 4}),
    (["overlap", "time_zone"], {}, {"overlap": Schedule.OVERLAP_SKIP, "time_zone": "UTC"}),
    (["*"], {"cron": "@daily", "spec": spec("other")}, {"cron": "@daily", "overlap": 1}),
]


@pytest.mark.parametrize(("paths", "given", "expected"), CHANGES)
async def test_what_is_named_is_changed_and_the_rest_stays(
    served: Served, paths: list[str], given: dict[str, Any], expected: dict[str, Any]
) -> None:
    before = await create(
        served, schedule(time_zone="Europe/Berlin", overlap=Schedule.OVERLAP_QUEUE)
    )
    after = await update(served, paths, **given)

    assert {name: getattr(after, name) for name in expected} == expected
    unchanged = {"cron", "time_zone", "overlap", "catch_up", "create_time"} - {*expected, *paths}
    if paths != ["*"]:
        assert {n: getattr(after, n) for n in unchanged} == {
            n: getattr(before, n) for n in unchanged
        }
        assert after.spec.type == "work"
    assert after == await get(served)


async def test_a_field_of_the_task_is_changed_alone(served: Served) -> None:
    task = spec(priority=2, labels={"a": "b"}, concurrency_keys=["k"])
    await create(served, schedule(spec=task, overlap=Schedule.OVERLAP_QUEUE))

    after = await update(served, ["spec.type", "spec.labels"], spec=spec("other", priority=9))

    assert (after.spec.type, after.spec.priority, dict(after.spec.labels)) == ("other", 2, {})
    # What follows from the type follows from the new one; its own key is there once.
    assert list(after.spec.required_capabilities) == ["other"]
    assert list(after.spec.concurrency_keys) == ["k", "schedule/nightly"]
    assert after.spec.payload.data == b"data"


async def test_a_changed_schedule_is_there_after_a_restart(tmp_path: Path) -> None:
    async with wire(tmp_path) as served:
        await create(served, schedule())
        await trigger(served)
        changed = await update(served, [], cron="@weekly")
    async with wire(tmp_path) as served:
        assert await get(served) == changed
    assert changed.task_count == 1


async def test_a_wrong_change_is_refused_by_name(served: Served) -> None:
    await create(served, schedule())
    cases: list[tuple[list[str], dict[str, Any], str, str]] = [
        (["paused"], {}, "FIELD_MASK_INVALID", "paused"),
        (["spec.nothing"], {}, "FIELD_MASK_INVALID", "spec.nothing"),
        (["cron.minute"], {}, "FIELD_MASK_INVALID", "cron.minute"),
        (["cron"], {}, "INVALID_FIELD", "schedule.cron"),
        (["spec.priority"], {"spec": spec(priority=10)}, "INVALID_FIELD", "schedule.spec.priority"),
        ([], {"spec": spec(tenant="red")}, "INVALID_FIELD", "schedule.spec.tenant"),
        (["spec.request_id"], {"spec": spec(request_id="x")}, "INVALID_FIELD", "spec.request_id"),
    ]
    for paths, given, reason, named in cases:
        error = await refusal(update(served, paths, **given))
        assert (type(error), error.reason) == (InvalidArgument, reason)
        told = {error.metadata.get("path", ""), *(v.field for v in error.violations)}
        assert any(named in one for one in told), (told, named)
    assert (await get(served)).cron == "0 3 * * *"


async def test_a_task_is_made_on_request(served: Served) -> None:
    await create(served, schedule())
    task_id = await trigger(served, "once")

    task = await served.get(task_id)
    assert (task.spec.schedule_id, task.spec.payload.data) == ("nightly", b"data")
    assert await trigger(served, "once") == task_id
    error = await refusal(trigger(served))
    assert (type(error), error.reason) == (FailedPrecondition, "SCHEDULE_OVERLAP")
    assert error.metadata["task_id"] == task_id
    assert (await refusal(trigger(served, "no spaces"))).reason == "INVALID_FIELD"


async def test_only_who_may_changes_and_triggers(served: Served, act: Act) -> None:
    act("red", "submitter", "reader")
    await create(served, schedule())
    act("blue", "submitter", "reader")
    for call in (update(served, [], "red", cron="@daily"), trigger(served, tenant="red")):
        assert (await refusal(call)).reason == "SCHEDULE_NOT_FOUND"

    act("blue", "operator", "reader")
    assert (await update(served, [], "red", cron="@daily")).tenant == "red"
    task_id = await trigger(served, tenant="red")
    assert (await served.get(task_id)).spec.tenant == "red"
