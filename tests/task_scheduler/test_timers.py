from __future__ import annotations

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
