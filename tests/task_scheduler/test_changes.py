from __future__ import annotations

from services.task_scheduler.core.changes import CHANGES
from services.task_scheduler.core.event import Terms
from services.task_scheduler.core.retry import RetryPolicy
from services.task_scheduler.core.states import TASKLESS, Kind, State
from tests.task_scheduler.rig import Rig


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


def test_who_is_revived_waits_for_nobody() -> None:
    rig = Rig()
    first, second = rig.submit_one(), rig.submit_one()
    waiting = rig.submit_one(depends_on=[first.task_id, second.task_id])
    rig.credit("work")
    rig.grants()
    rig.start(first)
    rig.fail(rig.lease(first), retryable=False)
    assert waiting.state is State.FAILED

    rig.core.control.requeue(waiting, None, rig.now)
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
