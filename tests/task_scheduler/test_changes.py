from __future__ import annotations

from services.task_scheduler.core.changes import CHANGES
from services.task_scheduler.core.event import Terms
from services.task_scheduler.core.retry import RetryPolicy
from services.task_scheduler.core.states import TASKLESS, Kind, State
from services.task_scheduler.core.task import SHOWN_BLOCKED, Task
from tests.task_scheduler.rig import START, Rig, facts


def test_every_kind_changes_its_task_or_says_why_not() -> None:
    assert set(Kind) - set(CHANGES) - TASKLESS == {Kind.RESUMED}


def test_a_grant_is_charged_and_settled_with_what_was_used() -> None:
    rig = Rig()
    task = rig.running()
    assert task.charged_s > 0
    rig.now = rig.now._replace(mono_s=rig.now.mono_s + 12.0)
    rig.complete(rig.lease(task))

    (tenant,) = rig.book.queue.shares
    assert (tenant.used_s, task.charged_s) == (12.0, 0.0)
    assert tenant.run_s == {"work": 12.0}


def test_time_until_a_question_counts_too() -> None:
    rig = Rig()
    task = rig.running()
    rig.now = rig.now._replace(mono_s=rig.now.mono_s + 5.0)
    rig.core.outcomes.asked("r1", rig.lease(task), "a1", b"?", None, rig.now)

    (tenant,) = rig.book.queue.shares
    assert tenant.used_s == 5.0
    rig.take()
    (again,) = rig.restarted().book.queue.shares
    assert again.used_s == 5.0


def test_a_grant_that_comes_back_costs_nothing() -> None:
    rig = Rig()
    task = rig.granted()
    rig.core.outcomes.handed_back("r1", rig.lease(task), "NO_AGENT", "", rig.now)

    (tenant,) = rig.book.queue.shares
    assert tenant.used_s == 0.0


def dead_after_each_other(rig: Rig) -> tuple[Task, Task]:
    """A task that has failed, and one that died of it."""
    first = rig.running()
    second = rig.submit_one(depends_on=[first.task_id])
    rig.fail(rig.lease(first), retryable=False)
    assert second.state is State.FAILED
    return first, second


def test_a_revived_task_waits_for_the_revived_one_it_depends_on() -> None:
    rig = Rig()
    first, second = dead_after_each_other(rig)
    rig.core.control.requeue(first, None, rig.now)
    rig.core.control.requeue(second, None, rig.now)
    rig.take()

    assert (second.state, second.shown_state) == (State.CREATED, SHOWN_BLOCKED)
    assert rig.kinds(second)[-2:] == [Kind.REQUEUED, Kind.BLOCKED]
    again = rig.restarted()
    assert facts(again.core) == facts(rig.core)
    for one in (rig, again):
        one.core.dispatch.open("r1", [], one.now)
        one.credit()
        one.start(one.task(first.task_id))
        one.complete(one.lease(one.task(first.task_id)))
        assert one.task(second.task_id).state is State.ASSIGNED


def test_a_revived_task_dies_again_when_what_it_depends_on_does() -> None:
    rig = Rig()
    first, second = dead_after_each_other(rig)
    rig.core.control.requeue(first, None, rig.now)
    rig.core.control.requeue(second, None, rig.now)
    rig.take()
    rig.start(first)
    rig.fail(rig.lease(first), retryable=False)

    assert Kind.ASSIGNED not in rig.kinds(second)
    assert second.failure is not None
    assert (second.state, second.failure.reason) == (State.FAILED, "DEPENDENCY_FAILED")


def test_each_dependency_of_a_revived_task_counts_once() -> None:
    rig = Rig()
    first, other = rig.running(), rig.submit_one("other")
    second = rig.submit_one(depends_on=[first.task_id, other.task_id])
    rig.fail(rig.lease(first), retryable=False)
    rig.core.control.requeue(first, None, rig.now)
    rig.core.control.requeue(second, None, rig.now)
    rig.take()
    assert second.open_dependencies == 2

    rig.credit("other", class_id=2)
    rig.start(other)
    rig.complete(rig.lease(other))

    assert (second.state, second.open_dependencies) == (State.CREATED, 1)


def test_a_deadline_that_has_passed_is_dropped_from_what_is_revived() -> None:
    rig = Rig()
    rig.book.redate = lambda head, deadline_ms, _: head + str(deadline_ms).encode()
    task = rig.running(terms=Terms(deadline_ms=START.wall_ms + 3_000))
    rig.fail(rig.lease(task), retryable=False)
    rig.advance(5)

    rig.core.control.requeue(task, None, rig.now)
    rig.advance(60)

    assert (task.state, task.terms.deadline_ms, task.head[-2:]) == (State.ASSIGNED, 0, b"k0")
    again = rig.restarted().task(task.task_id)
    assert (again.state, again.terms) == (task.state, task.terms)


def test_a_deadline_that_lies_ahead_stays() -> None:
    rig = Rig()
    task = rig.running(terms=Terms(deadline_ms=START.wall_ms + 3_000))
    rig.fail(rig.lease(task), retryable=False)
    rig.core.control.requeue(task, None, rig.now)
    rig.advance(5)

    assert task.state is State.EXPIRED


def test_what_is_revived_with_another_deadline_keeps_that_one_alone() -> None:
    rig = Rig()
    task = rig.running(terms=Terms(deadline_ms=START.wall_ms + 3_000))
    rig.fail(rig.lease(task), retryable=False)
    later_ms = START.wall_ms + 60_000
    rig.core.control.requeue(task, b"new!", rig.now, deadline_ms=later_ms)
    rig.advance(30)

    again = rig.restarted()
    for one in (rig, again):
        found = one.task(task.task_id)
        assert (found.state, found.terms.deadline_ms) == (State.ASSIGNED, later_ms)
        assert found.payload == b"new!"
    rig.advance(31)
    assert task.state is State.EXPIRED


def test_who_is_told_to_ignore_others_waits_for_nobody() -> None:
    rig = Rig()
    first, second = rig.submit_one(), rig.submit_one()
    waiting = rig.submit_one(depends_on=[first.task_id, second.task_id])
    rig.credit("work")
    rig.grants()
    rig.start(first)
    rig.fail(rig.lease(first), retryable=False)
    assert waiting.state is State.FAILED

    rig.core.control.requeue(waiting, None, rig.now, ignore_dependencies=True)
    rig.core.control.pause(waiting, "", rig.now)
    rig.complete(rig.lease(second))
    rig.core.control.resume(waiting, rig.now)

    assert waiting.open_dependencies == 0
    assert waiting.state is State.QUEUED


def test_a_retry_that_is_due_while_it_is_paused_comes_when_it_is_resumed() -> None:
    rig = Rig()
    task = rig.running(terms=Terms(policy=RetryPolicy(3, 5_000, jitter=0.0)))
    rig.fail(rig.lease(task))
    rig.core.control.pause(task, "", rig.now)
    rig.advance(30)
    assert task.state is State.PAUSED

    rig.core.control.resume(task, rig.now)

    assert task.state is State.QUEUED
