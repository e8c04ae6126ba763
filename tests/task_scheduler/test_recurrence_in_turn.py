"""Schedules whose tasks wait for each other."""

from __future__ import annotations

import pytest

from services.task_scheduler.core import catalog
from services.task_scheduler.core.event import Overlap, Terms
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.retry import RetryPolicy
from services.task_scheduler.core.states import Kind, State
from services.task_scheduler.core.task import SHOWN_BLOCKED, Task
from tests.task_scheduler.rig import created, facts
from tests.task_scheduler.test_recurrence import Timetable


def test_queue_lets_one_run_at_a_time() -> None:
    rig = Timetable()
    task = created(terms=Terms(concurrency_keys=("schedule/nightly",)))
    rig.schedule(overlap=Overlap.QUEUE, task=task)
    rig.credit("work")
    rig.advance(60 * 3, step_s=1)
    first, *others = rig.made()
    assert first.state is State.ASSIGNED
    assert {other.shown_state for other in others} == {SHOWN_BLOCKED}
    told = catalog.waiting_for(rig.book, others[0])
    assert told == "It waits until the tasks that schedule nightly made before it have ended."

    rig.complete(rig.lease(first))

    assert others[0].state is State.ASSIGNED


def queued_schedule(count: int) -> tuple[Timetable, list[Task]]:
    """Return the first tasks of a schedule that queues; the first of them runs."""
    rig = Timetable()
    keys = Terms(concurrency_keys=("schedule/nightly",), policy=RetryPolicy(3, 3_600_000))
    schedule = rig.schedule(cron="0", overlap=Overlap.QUEUE, task=created(terms=keys))
    rig.credit("work")
    for _ in range(count):
        rig.core.recurrence.trigger(schedule, "me", "", rig.now)
    rig.take()
    rig.start(rig.made()[0])
    return rig, rig.made()


@pytest.mark.parametrize("held", [State.RETRY_WAIT, State.INPUT_REQUIRED, State.PAUSED])
def test_queue_waits_for_one_that_nobody_works_on_too(held: State) -> None:
    rig, (first, second, third) = queued_schedule(3)
    control = rig.core.control
    if held is State.RETRY_WAIT:
        rig.fail(rig.lease(first))
    elif held is State.INPUT_REQUIRED:
        rig.core.outcomes.asked("r1", rig.lease(first), "a1", b"?", None, rig.now)
    else:
        control.pause(first, "", rig.now)
    rig.advance(10.0)
    again = rig.restarted()
    again.core.start(again.now)
    again.take()
    for one in (rig, again):
        states = [one.task(task.task_id).state for task in (first, second, third)]
        assert states == [held, State.CREATED, State.CREATED]

    control.cancel(third, "", rig.now)
    control.cancel(first, "", rig.now)
    rig.take()
    assert second.state is State.ASSIGNED


def test_a_dead_letter_of_a_schedule_that_queues_comes_behind_the_others() -> None:
    rig, (first, second, third) = queued_schedule(3)
    rig.fail(rig.lease(first), retryable=False)
    assert second.state is State.ASSIGNED
    rig.core.control.requeue(first, None, rig.now)
    rig.take()
    assert rig.kinds(first)[-2:] == [Kind.REQUEUED, Kind.BLOCKED]

    rig.complete(rig.lease(second))
    assert (first.state, third.state) == (State.CREATED, State.ASSIGNED)
    rig.complete(rig.lease(third))
    assert first.state is State.ASSIGNED


def test_tasks_of_a_schedule_that_is_deleted_wait_for_no_turn() -> None:
    rig, (first, *others) = queued_schedule(3)
    rig.core.recurrence.delete(rig.core.recurrence.find("default", "nightly"), "me", rig.now)
    rig.take()

    # They still run one at a time.
    assert (first.state, {other.state for other in others}) == (State.RUNNING, {State.QUEUED})
    assert rig.restarted().book.waits.blocked == rig.book.waits.blocked == 0


def test_a_log_of_a_version_that_queued_them_at_once_is_replayed() -> None:
    rig, (_, second) = queued_schedule(2)
    rig.book.record(Kind.QUEUED, second, rig.now)
    rig.take()

    again = rig.restarted()

    assert again.task(second.task_id).state is State.QUEUED
    assert facts(again.core) == facts(rig.core)


@pytest.mark.parametrize("limits", [Limits(), Limits(concurrency_limits={"*": 4})], ids=range(2))
def test_queue_lets_one_run_whatever_is_allowed_of_other_keys(limits: Limits) -> None:
    rig = Timetable(limits)
    keys = Terms(concurrency_keys=("gpu", "schedule/nightly"), concurrency_limit=4)
    rig.schedule(overlap=Overlap.QUEUE, task=created(terms=keys))
    rig.credit("work")
    rig.advance(60 * 3, step_s=1)

    assert [made.state for made in rig.made()].count(State.ASSIGNED) == 1
    assert len(rig.made()) > 1
