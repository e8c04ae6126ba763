from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import TypeVar

import pytest

from services.task_scheduler.core.arrears import After, count, newest
from services.task_scheduler.core.event import CatchUp, Firing
from services.task_scheduler.core.recurrence import (
    COUNTED_LEN_MAX,
    STALE_LEN_MIN,
    STEPS_LEN_MAX,
)
from tests.task_scheduler.rig import every
from tests.task_scheduler.test_recurrence import Timetable

T = TypeVar("T")
DAY_MS = 86_400_000
DOWN_S = 8 * 3_600.0


def run(steps: Generator[None, None, T]) -> tuple[T, int]:
    """Return what they come to, and how many there were."""
    taken = 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value, taken
        taken += 1


def each(seconds: int) -> After:
    return partial(every, str(seconds), "UTC")


@pytest.mark.parametrize("seconds", [60, 3_600, 86_400, 30 * 86_400])
@pytest.mark.parametrize("len_max", [1, 2, 101])
def test_the_newest_times_are_found_without_a_look_at_those_before(
    seconds: int, len_max: int
) -> None:
    now_ms = 400 * DAY_MS + 1
    first_ms = seconds * 1_000

    found, looks = run(newest(each(seconds), first_ms, now_ms, len_max))

    times = range(first_ms, now_ms + 1, seconds * 1_000)
    assert found == list(times[-len_max:])
    assert looks <= 6 * len_max + 20


def test_times_that_come_in_bursts_are_found_beyond_a_long_gap() -> None:
    times = [minute * 60_000 for minute in (1, 2, 3, 4, 5, 5_000)]

    def after(wall_ms: int) -> int:
        return next((at for at in times if at > wall_ms), 0)

    assert run(newest(after, times[0], 5_001 * 60_000, 3))[0] == times[-3:]
    assert run(newest(after, times[0], 5_001 * 60_000, 10))[0] == times


@pytest.mark.parametrize(
    ("end_ms", "most", "counted"), [(60_000, 9, 0), (600_000, 99, 9), (600_000, 4, 4)]
)
def test_times_are_counted_up_to_a_bound(end_ms: int, most: int, counted: int) -> None:
    (found, stopped_ms), looks = run(count(each(60), 60_000, end_ms, most))

    assert (found, looks) == (counted, counted)
    assert stopped_ms == 60_000 * (1 + counted)


def many(catch_up: CatchUp = CatchUp.LAST, number: int = 200) -> Timetable:
    rig = Timetable()
    for index in range(number):
        rig.schedule(schedule_id=f"s{index}", catch_up=catch_up)
    return rig


def test_after_a_long_absence_no_tick_takes_long_and_every_schedule_has_its_turn() -> None:
    rig = many()
    rig.sleep(DOWN_S)
    ticks = 0
    while len(rig.made()) < 200:
        before = rig.looks
        rig.core.tick(rig.now)
        ticks += 1
        assert rig.looks - before <= STEPS_LEN_MAX + 2
    assert ticks <= 200 * (COUNTED_LEN_MAX + 12) / STEPS_LEN_MAX

    rig.rest()

    newest_ms = rig.now.wall_ms // 60_000 * 60_000
    assert {task.origin.schedule_ms for task in rig.made()} == {newest_ms}
    assert all(s.skip_count == DOWN_S / 60 - 1 for s in rig.book.schedules)
    assert all(s.next_ms > rig.now.wall_ms for s in rig.book.schedules)


def test_a_schedule_that_is_on_time_does_not_wait_for_those_that_are_late() -> None:
    rig = many()
    rig.sleep(DOWN_S)
    rig.advance(0.5)
    prompt = rig.schedule(schedule_id="prompt", cron="5")
    rig.advance(5.5)

    assert rig.core.recurrence._uncounted or rig.core.recurrence._late
    assert prompt.task_count == 1


def test_many_that_are_due_at_once_are_made_within_a_few_ticks() -> None:
    rig = many()
    rig.advance(60 - rig.now.wall_ms / 1_000 % 60)
    assert 0 < len(rig.made()) < 200

    rig.rest()

    assert len(rig.made()) == 200
    assert {firing for firing, _ in rig.firings} == {Firing.CREATED}


def test_one_that_is_changed_while_it_catches_up_makes_no_time_twice() -> None:
    rig = Timetable()
    schedule = rig.schedule(catch_up=CatchUp.ALL, window_ms=DAY_MS)
    rig.sleep(DOWN_S)
    while not rig.made():
        rig.core.tick(rig.now)
    assert len(rig.made()) < 100

    changed = schedule.plan._replace(window_ms=2 * DAY_MS)
    rig.core.recurrence.update(schedule, changed, "somebody", rig.now)
    rig.rest()

    times = [task.origin.schedule_ms for task in rig.made()]
    assert times == sorted(set(times))
    assert times[-1] == rig.now.wall_ms // 60_000 * 60_000


@pytest.mark.parametrize("how", ["pause", "delete"])
def test_one_that_is_stopped_while_it_catches_up_makes_no_more(how: str) -> None:
    rig = Timetable()
    schedule = rig.schedule(catch_up=CatchUp.ALL, window_ms=DAY_MS)
    rig.sleep(DOWN_S)
    while not rig.made():
        rig.core.tick(rig.now)
    made = len(rig.made())

    getattr(rig.core.recurrence, how)(schedule, "somebody", rig.now)
    rig.rest()

    assert len(rig.made()) == made
    assert not rig.core.recurrence._late


def test_times_of_schedules_that_are_gone_do_not_pile_up() -> None:
    rig = Timetable()
    kept = rig.schedule(schedule_id="kept", cron="86400")
    for _ in range(3 * STALE_LEN_MIN):
        rig.core.recurrence.delete(rig.schedule(cron="864000"), "somebody", rig.now)

    assert len(rig.core.recurrence._due) <= STALE_LEN_MIN + 2
    assert any(key[1:] == kept.key for key in rig.core.recurrence._due)
