"""What people do to schedules that run: another plan, and a task at once."""

from __future__ import annotations

import pytest

from services.kernel.errors import AlreadyExists, FailedPrecondition, ResourceExhausted
from services.task_scheduler.core.event import CatchUp, Overlap, Terms
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.recurrence import OPEN_LEN_MAX
from services.task_scheduler.core.states import Kind, State
from tests.task_scheduler.rig import created, facts, plan
from tests.task_scheduler.test_recurrence import Timetable


def test_another_plan_counts_from_the_change_on_and_keeps_what_was_done() -> None:
    rig = Timetable()
    schedule = rig.schedule(cron="60", catch_up=CatchUp.ALL)
    rig.advance(61, step_s=1)
    made = schedule.task_count
    rig.core.recurrence.update(schedule, schedule.plan._replace(cron="7"), "me", rig.now)

    # Nothing of the new times lies behind the change.
    assert rig.now.wall_ms < schedule.next_ms <= rig.now.wall_ms + 7_000
    rig.advance(21, step_s=1)
    assert schedule.task_count == made + 3
    assert len(schedule.open) == schedule.task_count
    assert facts(rig.restarted().core)["schedules"] == rig.book.schedules.plain()


def test_what_was_due_before_the_change_is_settled_by_the_plan_of_then() -> None:
    rig = Timetable()
    schedule = rig.schedule(cron="60")
    due_ms = schedule.next_ms
    rig.sleep(60)
    rig.core.recurrence.update(schedule, schedule.plan._replace(cron="3600"), "me", rig.now)
    rig.take()

    assert [task.origin.schedule_ms for task in rig.made()] == [due_ms]


def test_the_same_plan_again_is_no_change() -> None:
    rig = Timetable()
    schedule = rig.schedule()
    seq = rig.book.seq

    rig.core.recurrence.update(schedule, plan(), "somebody", rig.now)

    assert rig.book.seq == seq


def test_a_task_is_made_at_once_on_request_and_the_next_time_stays() -> None:
    rig = Timetable()
    schedule = rig.schedule()
    next_ms = schedule.next_ms
    task_id = rig.core.recurrence.trigger(schedule, "me", "", rig.now)
    rig.take()

    task = rig.task(task_id)
    assert (task.state, task.origin.schedule_id) == (State.QUEUED, "nightly")
    assert (task.principal, task.origin.schedule_ms) == ("me", rig.now.wall_ms)
    assert (schedule.next_ms, schedule.task_count, rig.firings) == (next_ms, 1, [])
    assert rig.kinds()[-3:] == [Kind.CREATED, Kind.QUEUED, Kind.SCHEDULE_TRIGGERED]
    rig.advance(60)
    assert [one.origin.schedule_ms for one in rig.made()][1:] == [next_ms]


def test_a_paused_schedule_makes_one_on_request() -> None:
    rig = Timetable()
    schedule = rig.schedule()
    rig.core.recurrence.pause(schedule, "me", rig.now)

    assert rig.core.recurrence.trigger(schedule, "me", "", rig.now) in rig.book.tasks
    assert schedule.next_ms == 0


def test_a_repeated_request_makes_one_task_also_after_a_restart() -> None:
    rig = Timetable()
    schedule = rig.schedule(overlap=Overlap.SKIP)
    first = rig.core.recurrence.trigger(schedule, "me", "once", rig.now)
    rig.take()
    again = rig.restarted()
    for one in (rig, again):
        schedule = one.core.recurrence.find("default", "nightly")
        assert one.core.recurrence.trigger(schedule, "me", "once", one.now) == first
        with pytest.raises(AlreadyExists):
            one.submit_one(request_id="once", principal="me", spec_hash=b"another")


def test_beside_one_that_has_not_ended_the_overlap_decides() -> None:
    def asked_twice(overlap: Overlap) -> list[State]:
        rig = Timetable()
        keys = ("schedule/nightly",) if overlap is Overlap.QUEUE else ()
        task = created(terms=Terms(concurrency_keys=keys))
        schedule = rig.schedule(overlap=overlap, task=task)
        for _ in range(2):
            rig.core.recurrence.trigger(schedule, "me", "", rig.now)
        rig.take()
        return [task.state for task in rig.made()]

    with pytest.raises(FailedPrecondition) as refused:
        asked_twice(Overlap.SKIP)
    assert refused.value.reason == "SCHEDULE_OVERLAP"
    assert asked_twice(Overlap.ALLOW) == [State.QUEUED, State.QUEUED]
    assert asked_twice(Overlap.QUEUE) == [State.QUEUED, State.CREATED]
    assert asked_twice(Overlap.CANCEL_RUNNING) == [State.CANCELED, State.QUEUED]


def test_requests_are_bounded_by_the_open_tasks_and_by_the_room() -> None:
    rig = Timetable(Limits(tenant_open_tasks_max={"small": 1}))
    schedule = rig.schedule()
    for _ in range(OPEN_LEN_MAX):
        rig.core.recurrence.trigger(schedule, "me", "", rig.now)
    small = rig.schedule(
        schedule_id="small", overlap=Overlap.CANCEL_RUNNING, task=created(tenant="small")
    )
    first = rig.core.recurrence.trigger(small, "me", "", rig.now)

    reasons = []
    for one in (schedule, small):
        with pytest.raises(ResourceExhausted) as refused:
            rig.core.recurrence.trigger(one, "me", "", rig.now)
        reasons.append(refused.value.reason)
    assert reasons == ["SCHEDULE_BACKLOG_FULL", "TENANT_BACKLOG_FULL"]
    # Who is refused has canceled nothing.
    assert rig.task(first).state is State.QUEUED
