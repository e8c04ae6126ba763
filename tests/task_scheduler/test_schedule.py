from __future__ import annotations

from services.task_scheduler.core.event import CatchUp, Firing, ScheduleChange
from services.task_scheduler.core.schedule import Schedules
from services.task_scheduler.core.states import Kind
from tests.task_scheduler.rig import plan

KEY = "default", "nightly"


def of_one(*changes: tuple[Kind, ScheduleChange, int]) -> Schedules:
    schedules = Schedules()
    schedules.apply(Kind.SCHEDULE_CREATED, ScheduleChange(*KEY, plan()), 1_000)
    for change in changes:
        schedules.apply(*change)
    return schedules


def fired(due_ms: int, firing: Firing = Firing.CREATED, missed: int = 0) -> ScheduleChange:
    return ScheduleChange(*KEY, None, due_ms, firing, missed)


def test_what_was_due_is_settled_up_to_the_last_time() -> None:
    schedule = of_one((Kind.SCHEDULE_FIRED, fired(60_000), 60_010)).find(*KEY)

    assert schedule is not None
    assert (schedule.seen_ms, schedule.last_ms, schedule.skip_count) == (60_000, 60_000, 0)


def test_times_that_passed_by_are_counted() -> None:
    schedule = of_one(
        (Kind.SCHEDULE_FIRED, fired(300_000, Firing.SKIPPED_MISSED, 5), 300_000),
        (Kind.SCHEDULE_FIRED, fired(360_000, Firing.SKIPPED_OVERLAP), 360_000),
    ).find(*KEY)

    assert schedule is not None
    assert schedule.skip_count == 6


def test_while_it_is_paused_time_is_lost() -> None:
    change = ScheduleChange(*KEY)
    schedule = of_one(
        (Kind.SCHEDULE_PAUSED, change, 5_000), (Kind.SCHEDULE_RESUMED, change, 9_000)
    ).find(*KEY)

    assert schedule is not None
    assert (schedule.paused, schedule.seen_ms) == (False, 9_000)


def test_it_goes_on_from_plain_values() -> None:
    schedules = of_one((Kind.SCHEDULE_FIRED, fired(60_000), 60_010))
    again = Schedules()
    again.restore(schedules.plain())

    assert again.plain() == schedules.plain()
    assert [schedule.key for schedule in again] == [KEY]


def test_a_deleted_one_is_forgotten() -> None:
    schedules = of_one((Kind.SCHEDULE_DELETED, ScheduleChange(*KEY), 2_000))

    assert (len(schedules), schedules.find(*KEY)) == (0, None)


def test_another_plan_keeps_what_it_has_done() -> None:
    changed = plan(cron="30")
    schedules = of_one(
        (Kind.SCHEDULE_FIRED, fired(60_000), 60_010),
        (Kind.SCHEDULE_PAUSED, ScheduleChange(*KEY), 61_000),
        (Kind.SCHEDULE_UPDATED, ScheduleChange(*KEY, changed), 75_000),
    )
    schedule = schedules.find(*KEY)

    assert schedule is not None
    assert (schedule.plan, schedule.last_ms, schedule.paused) == (changed, 60_000, True)
    # By the new times nothing was due before.
    assert schedule.seen_ms == 75_000


def test_another_task_for_the_same_times_moves_none_of_them() -> None:
    changed = plan(catch_up=CatchUp.ALL)
    schedules = of_one(
        (Kind.SCHEDULE_FIRED, fired(60_000), 60_010),
        (Kind.SCHEDULE_UPDATED, ScheduleChange(*KEY, changed), 75_000),
    )

    assert [schedule.seen_ms for schedule in schedules] == [60_000]


def test_what_somebody_asked_for_settles_no_time() -> None:
    asked = ScheduleChange(*KEY, due_ms=90_000, principal="me")
    before, after = of_one(), of_one((Kind.SCHEDULE_TRIGGERED, asked, 90_000))

    assert after.plain() == before.plain()
