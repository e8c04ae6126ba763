from __future__ import annotations

from itertools import pairwise

import pytest

from services.kernel.errors import AlreadyExists, NotFound, ResourceExhausted
from services.kernel.instant import Instant
from services.kernel.telemetry import parse_traceparent
from services.task_scheduler.core.event import CatchUp, Firing, Overlap, Terms
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.recurrence import OPEN_LEN_MAX
from services.task_scheduler.core.states import Kind, State
from services.task_scheduler.core.task import Task
from tests.task_scheduler.rig import Rig, created, every, facts, plan


class Timetable(Rig):
    """A rig with a schedule; its start is on a full minute."""

    looks = 0
    """Into the calendar."""

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__(limits)
        self.core.recurrence._calendar = self._look

    def _look(self, cron: str, time_zone: str, wall_ms: int) -> int:
        self.looks += 1
        return every(cron, time_zone, wall_ms)

    def schedule(self, **changed: object):
        made = plan(**changed)
        return self.core.recurrence.create(made.task.tenant, made, "somebody", self.now)

    @property
    def firings(self) -> list[tuple[Firing, int]]:
        """What was done at each time, with the times that passed by."""
        return [
            (event.detail.firing, event.detail.missed)
            for event in self.events
            if event.kind is Kind.SCHEDULE_FIRED
        ]

    def made(self) -> list[Task]:
        return [task for task in self.book.tasks.values() if task.origin.schedule_id]

    def rest(self) -> None:
        """Let all be done that is due now, however many ticks it takes."""
        said = -1
        while said != self.looks:
            said = self.looks
            self.advance(0.001)

    def sleep(self, seconds: float) -> None:
        """Let time pass while nobody looks, as while the process is down."""
        self.now = Instant(self.now.mono_s + seconds, self.now.wall_ms + round(seconds * 1000))


def test_it_makes_a_task_each_time() -> None:
    rig = Timetable()
    schedule = rig.schedule()
    rig.advance(59 * 3, step_s=1)

    tasks = rig.made()
    assert [task.origin.schedule_ms for task in tasks] == [
        every("60", "UTC", schedule.created_ms) + 60_000 * turn for turn in range(len(tasks))
    ]
    assert len(tasks) in (2, 3)
    assert all(task.state is State.QUEUED for task in tasks)
    assert schedule.task_count == len(tasks)
    assert schedule.last_task_id == tasks[-1].task_id


def test_spans_of_its_task_count_from_when_each_is_made() -> None:
    rig = Timetable()
    spans = Terms(deadline_after_ms=50_000, delay_ms=5_000)
    rig.schedule(task=created(terms=spans))
    rig.advance(59, step_s=1)
    (first,) = rig.made()
    began_ms = first.created_ms

    assert first.terms == Terms(deadline_ms=began_ms + 50_000, not_before_ms=began_ms + 5_000)
    assert facts(rig.restarted().core) == facts(rig.core)
    rig.advance(65, step_s=1)
    second = rig.made()[1]
    assert first.state is State.EXPIRED
    assert second.terms.deadline_ms == second.created_ms + 50_000


def test_each_task_begins_a_trace_of_its_own() -> None:
    rig = Timetable()
    rig.schedule()
    rig.advance(180)

    traces = [parse_traceparent(task.traceparent) for task in rig.made()]
    assert None not in traces
    assert len(set(traces)) == len(traces) >= 2


def test_the_task_follows_the_event_that_says_so_in_one_step() -> None:
    rig = Timetable()
    rig.schedule()
    rig.advance(60)

    kinds = rig.kinds()
    at = kinds.index(Kind.SCHEDULE_FIRED)
    assert kinds[at : at + 3] == [Kind.SCHEDULE_FIRED, Kind.CREATED, Kind.QUEUED]


def test_skip_makes_none_while_the_last_is_open() -> None:
    rig = Timetable()
    schedule = rig.schedule(overlap=Overlap.SKIP)
    rig.advance(61 * 3, step_s=1)
    assert [firing for firing, _ in rig.firings][:2] == [Firing.CREATED, Firing.SKIPPED_OVERLAP]
    assert schedule.skip_count == len(rig.firings) - 1

    rig.core.control.cancel(rig.made()[0], "", rig.now)
    rig.advance(60)

    assert rig.firings[-1][0] is Firing.CREATED


def test_cancel_running_makes_way_for_the_next() -> None:
    rig = Timetable()
    schedule = rig.schedule(overlap=Overlap.CANCEL_RUNNING)
    rig.advance(60 * 3, step_s=1)

    tasks = rig.made()
    assert [task.state for task in tasks] == [State.CANCELED] * (len(tasks) - 1) + [State.QUEUED]
    assert list(schedule.open) == [tasks[-1].task_id]


def test_cancel_running_cancels_what_the_task_before_has_begun_too() -> None:
    rig = Timetable()
    rig.schedule(overlap=Overlap.CANCEL_RUNNING)
    rig.advance(60, step_s=1)
    child = rig.submit_one("other", parent=rig.made()[0].task_id)
    rig.advance(60, step_s=1)

    assert child.state is State.CANCELED


def test_open_tasks_of_a_schedule_are_bounded() -> None:
    rig = Timetable()
    rig.schedule(cron="1")
    rig.advance(OPEN_LEN_MAX + 20.0)

    assert len(rig.made()) == OPEN_LEN_MAX
    assert rig.firings[-1][0] is Firing.SKIPPED_LIMIT


def test_a_full_backlog_lets_it_make_none() -> None:
    rig = Timetable(Limits(tenant_open_tasks_max={"default": 1}))
    rig.schedule()
    rig.advance(60 * 3)

    assert [firing for firing, _ in rig.firings][:2] == [Firing.CREATED, Firing.SKIPPED_LIMIT]


DOWN_S = 600.0


@pytest.mark.parametrize(
    ("catch_up", "made", "skipped"),
    [(CatchUp.NONE, 1, 9), (CatchUp.LAST, 1, 9), (CatchUp.ALL, 10, 0)],
)
def test_what_passed_by_is_caught_up_with_as_wanted(
    catch_up: CatchUp, made: int, skipped: int
) -> None:
    rig = Timetable()
    rig.schedule(catch_up=catch_up)
    rig.sleep(DOWN_S)
    rig.advance(0.5)

    # The last of them is not a minute old: it is on time and made by every policy.
    assert len(rig.made()) == made
    assert sum(missed for _, missed in rig.firings) == skipped


@pytest.mark.parametrize(("catch_up", "made"), [(CatchUp.NONE, 0), (CatchUp.LAST, 1)])
def test_a_last_time_that_is_long_past_is_a_missed_one_too(catch_up: CatchUp, made: int) -> None:
    rig = Timetable()
    rig.schedule(cron="3600", catch_up=catch_up)
    rig.sleep(every("3600", "UTC", rig.now.wall_ms) / 1000 - rig.now.wall_ms / 1000 + 1_800)
    rig.advance(0.5)

    assert len(rig.made()) == made


def test_older_than_the_window_is_not_made_up_for() -> None:
    rig = Timetable()
    schedule = rig.schedule(catch_up=CatchUp.ALL, window_ms=300_000)
    rig.sleep(24 * 3600.0)
    rig.advance(0.5)

    assert len(rig.made()) == 5
    assert rig.firings[0][0] is Firing.SKIPPED_MISSED
    assert schedule.next_ms > rig.now.wall_ms
    # A day has 1,440 minutes, and each of them is told of, many by an event that comes later.
    rig.rest()
    assert [firing for firing, _ in rig.firings].count(Firing.SKIPPED_MISSED) == 2
    assert sum(missed for _, missed in rig.firings) == 1_435
    assert schedule.skip_count == 1_435
    assert schedule.last_ms == rig.now.wall_ms // 60_000 * 60_000


@pytest.mark.parametrize(("catch_up", "made"), [(CatchUp.LAST, 1), (CatchUp.ALL, 100)])
def test_a_week_of_minutes_is_made_up_for_at_once_by_the_newest(
    catch_up: CatchUp, made: int
) -> None:
    rig = Timetable()
    rig.schedule(catch_up=catch_up, window_ms=8 * 86_400_000)
    rig.sleep(7 * 86_400.0)
    rig.rest()

    times = [task.origin.schedule_ms for task in rig.made()]
    newest = rig.now.wall_ms // 60_000 * 60_000
    assert times == [newest - 60_000 * before for before in reversed(range(made))]
    assert sum(missed for _, missed in rig.firings) == 7 * 1_440 - made
    assert len(rig.firings) == 2 + made


def test_a_kill_between_two_times_makes_neither_twice() -> None:
    rig = Timetable()
    rig.schedule(catch_up=CatchUp.ALL)
    rig.advance(130)
    before = [task.origin.schedule_ms for task in rig.made()]

    again = rig.restarted(down_s=120.0)
    assert facts(again.core) == facts(rig.core)
    again.core.start(again.now)
    again.advance(1.0)

    after = [t.origin.schedule_ms for t in again.book.tasks.values() if t.origin.schedule_id]
    assert after[: len(before)] == before
    assert [b - a for a, b in pairwise(after)] == [60_000] * (len(after) - 1)
    assert len(after) == len(before) + 2


def test_a_paused_schedule_makes_nothing_and_does_not_make_up_for_it() -> None:
    rig = Timetable()
    schedule = rig.schedule(catch_up=CatchUp.ALL)
    rig.core.recurrence.pause(schedule, "somebody", rig.now)
    rig.advance(300)
    assert (rig.made(), schedule.next_ms) == ([], 0)

    rig.core.recurrence.resume(schedule, "somebody", rig.now)
    rig.advance(60)

    assert len(rig.made()) == 1


def test_pausing_and_resuming_twice_says_it_once() -> None:
    rig = Timetable()
    schedule = rig.schedule()
    for change in (rig.core.recurrence.pause, rig.core.recurrence.resume) * 1:
        change(schedule, "somebody", rig.now)
        change(schedule, "somebody", rig.now)
    rig.take()

    changes = [kind for kind in rig.kinds() if kind.name.startswith("SCHEDULE_")]
    assert changes == [Kind.SCHEDULE_CREATED, Kind.SCHEDULE_PAUSED, Kind.SCHEDULE_RESUMED]


def test_a_deleted_schedule_makes_nothing_and_its_tasks_go_on() -> None:
    rig = Timetable()
    schedule = rig.schedule()
    rig.advance(60)
    rig.core.recurrence.delete(schedule, "somebody", rig.now)
    rig.advance(300)

    (task,) = rig.made()
    assert task.state is State.QUEUED
    rig.core.control.cancel(task, "", rig.now)
    with pytest.raises(NotFound) as refused:
        rig.core.recurrence.find("default", "nightly")
    assert refused.value.reason == "SCHEDULE_NOT_FOUND"


def test_the_same_schedule_again_is_the_first_and_another_is_refused() -> None:
    rig = Timetable()
    first = rig.schedule()

    assert rig.schedule() is first
    with pytest.raises(AlreadyExists) as refused:
        rig.schedule(cron="5")
    assert refused.value.reason == "SCHEDULE_EXISTS"
    assert rig.schedule(task=created(tenant="other")) is not first


def test_schedules_are_bounded() -> None:
    rig = Timetable(Limits(schedules_len_max=1))
    rig.schedule()

    with pytest.raises(ResourceExhausted) as refused:
        rig.schedule(schedule_id="another")
    assert refused.value.reason == "SCHEDULES_FULL"


def test_one_that_never_fires_waits_for_ever() -> None:
    rig = Timetable()
    schedule = rig.schedule(cron="0")
    rig.advance(600)

    assert (rig.made(), schedule.next_ms) == ([], 0)
