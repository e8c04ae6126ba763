from __future__ import annotations

from services.task_scheduler.core.event import Terms
from services.task_scheduler.core.states import State
from services.task_scheduler.core.timers import STALE_LEN_MIN, Purpose, Timers
from tests.task_scheduler.rig import Rig


def test_timers_come_due_in_order_and_once() -> None:
    rig = Rig()
    one, two = rig.submit_one(), rig.submit_one()
    timers = Timers(lambda task, purpose, token: True)
    timers.set(5.0, two, Purpose.QUEUE, 0)
    timers.set(3.0, one, Purpose.DEADLINE, 0)

    assert list(timers.due(2.9)) == []
    assert timers.next_s() == 3.0
    assert list(timers.due(5.0)) == [(one, Purpose.DEADLINE), (two, Purpose.QUEUE)]
    assert list(timers.due(9.0)) == []
    assert timers.next_s() is None


def test_what_is_out_of_date_is_dropped_when_due() -> None:
    task = Rig().submit_one()
    timers = Timers(lambda task, purpose, token: token == 2)
    timers.set(1.0, task, Purpose.QUEUE, 1)
    timers.set(1.0, task, Purpose.QUEUE, 2)
    timers.dropped()

    assert list(timers.due(1.0)) == [(task, Purpose.QUEUE)]


def test_entries_of_ended_tasks_do_not_stay_in_memory_until_they_are_due() -> None:
    task = Rig().submit_one()
    valid = {7}
    timers = Timers(lambda task, purpose, token: token in valid)
    for token in range(3 * STALE_LEN_MIN):
        timers.set(1e9, task, Purpose.DEADLINE, token)
    for _ in range(2 * STALE_LEN_MIN):
        timers.dropped()

    assert len(timers) == 1


def test_a_timer_that_is_renewed_is_in_memory_once_or_a_few_times() -> None:
    rig = Rig()
    far_ms = rig.now.wall_ms + 10**9
    task = rig.submit_one(terms=Terms(not_before_ms=far_ms))
    for _ in range(3 * STALE_LEN_MIN):
        rig.core.control.pause(task, "", rig.now)
        rig.core.control.resume(task, rig.now)

    assert len(rig.book.timers) <= STALE_LEN_MIN + 2
    rig.advance(10**6 + 1, step_s=10**6 + 1)
    assert task.state is State.QUEUED


def test_of_a_timer_that_was_renewed_the_earliest_counts() -> None:
    task = Rig().submit_one()
    timers = Timers(lambda task, purpose, token: True)
    timers.set(5.0, task, Purpose.QUEUE, 1)
    for _ in range(STALE_LEN_MIN + 1):
        timers.renew(9.0, task, Purpose.QUEUE, 1)

    assert (timers.next_s(), len(timers)) == (5.0, 1)
