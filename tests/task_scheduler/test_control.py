from __future__ import annotations

import pytest

from services.kernel.errors import FailedPrecondition, NotFound, ResourceExhausted
from services.task_scheduler.core.event import Terms
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.orders import Revoke, Settlement
from services.task_scheduler.core.states import Kind, State
from tests.task_scheduler.rig import START, Rig, created


def test_a_missing_task_says_that_it_may_have_left_memory() -> None:
    with pytest.raises(NotFound, match="left memory") as missing:
        Rig().core.control.find("00-0-0")

    assert missing.value.reason == "TASK_NOT_FOUND"


def test_cancel_ends_a_waiting_task() -> None:
    rig = Rig()
    task = rig.submit_one()

    assert rig.core.control.cancel(task, "changed my mind", rig.now)
    rig.take()

    assert task.state is State.CANCELED
    assert task.failure is not None and task.failure.message == "changed my mind"
    rig.credit()
    assert rig.grants() == []


def test_cancel_reaches_the_running_agent() -> None:
    rig = Rig()
    task = rig.running()
    lease = rig.lease(task)

    rig.core.control.cancel(task, "", rig.now)
    rig.take()

    assert rig.orders[-1] == ("r1", Revoke(lease, "CANCELED"))
    assert not rig.book.leases


def test_a_result_after_the_cancel_is_fenced_and_changes_nothing() -> None:
    rig = Rig()
    task = rig.running()
    lease = rig.lease(task)
    rig.core.control.cancel(task, "", rig.now)
    rig.take()
    seq = rig.book.seq

    rig.complete(lease)

    assert rig.settlements() == [Settlement.FENCED]
    assert rig.book.seq == seq
    assert task.state is State.CANCELED


def test_the_result_wins_when_the_log_has_it_first() -> None:
    rig = Rig()
    task = rig.running()
    rig.complete(rig.lease(task))

    assert not rig.core.control.cancel(task, "", rig.now)
    assert task.state is State.COMPLETED


def test_a_deadline_ends_a_task_wherever_it_is() -> None:
    rig = Rig()
    terms = Terms(deadline_ms=START.wall_ms + 3_000)
    waiting = rig.submit_one(terms=terms)
    running = rig.running(terms=terms, needs=["other"])

    rig.advance(2.5)
    assert (waiting.state, running.state) == (State.QUEUED, State.RUNNING)
    rig.advance(1.0)

    assert (waiting.state, running.state) == (State.EXPIRED, State.EXPIRED)
    assert [order.reason for order in rig.said(Revoke)] == ["EXPIRED"]
    reasons = [(task.failure.reason, task.failure.message) for task in (waiting, running)]
    assert reasons == [
        (
            "DEADLINE_QUEUED",
            "The deadline passed before it was done. No connected agent has all of: work.",
        ),
        ("DEADLINE_RUNNING", "Agent a1 worked on it, in attempt 1, when the deadline passed."),
    ]


def test_only_a_dead_letter_is_revived_and_its_attempts_count_anew() -> None:
    rig = Rig()
    task = rig.running()
    assert not rig.core.control.requeue(task, None, rig.now)
    rig.fail(rig.lease(task), retryable=False)

    assert rig.core.control.requeue(task, None, rig.now)
    rig.take()

    assert rig.kinds(task)[-2:] == [Kind.REQUEUED, Kind.ASSIGNED]
    assert (task.attempt, task.failures, task.excluded, task.failure) == (0, 0, (), None)
    rig.start(task)
    rig.complete(rig.lease(task))
    assert task.state is State.COMPLETED
    assert not rig.book.dead


def test_a_task_whose_dependency_stays_dead_is_not_revived_without_saying_so() -> None:
    rig = Rig()
    first = rig.running()
    second = rig.submit_one(depends_on=[first.task_id])
    rig.fail(rig.lease(first), retryable=False)

    with pytest.raises(FailedPrecondition, match="requeue that one first") as refused:
        rig.core.control.requeue(second, None, rig.now)
    assert refused.value.reason == "DEPENDENCY_FAILED"
    assert second.state is State.FAILED
    assert rig.core.control.requeue(second, None, rig.now, ignore_dependencies=True)


def test_what_is_revived_needs_room_like_any_task() -> None:
    rig = Rig(Limits(open_tasks_max=10, tenant_open_tasks_max={"small": 1}))
    ordinary = rig.running()
    small = rig.running(tenant="small")
    for task in (ordinary, small):
        rig.fail(rig.lease(task), retryable=False)
    rig.submit(created(tenant="small"), *[created() for _ in range(7)])

    with pytest.raises(ResourceExhausted) as refused:
        rig.core.control.requeue(small, None, rig.now)
    assert refused.value.reason == "TENANT_BACKLOG_FULL"
    assert rig.core.control.requeue(ordinary, None, rig.now)
    rig.take()
    assert rig.book.open_tasks == 9
    rig.start(ordinary)
    rig.fail(rig.lease(ordinary), retryable=False)
    rig.submit_one()
    with pytest.raises(ResourceExhausted) as refused:
        rig.core.control.requeue(ordinary, None, rig.now)
    assert refused.value.reason == "BACKLOG_FULL"
    assert refused.value.retry_after_s
    assert ordinary.task_id in rig.book.dead


def test_a_revived_task_may_get_another_payload() -> None:
    rig = Rig()
    task = rig.running(payload=b"old")
    rig.fail(rig.lease(task), retryable=False)

    rig.core.control.requeue(task, b"new!", rig.now)
    rig.take()

    assert task.payload == b"new!"
    assert rig.restarted().task(task.task_id).payload == b"new!"


def test_a_question_parks_the_task_without_a_lease_until_the_answer() -> None:
    rig = Rig()
    task = rig.running()
    rig.core.outcomes.asked("r1", rig.lease(task), "a1", b"which?", None, rig.now)
    rig.take()

    assert task.state is State.INPUT_REQUIRED
    assert not rig.book.leases
    rig.advance(120.0)
    assert task.state is State.INPUT_REQUIRED

    rig.core.control.answer(task, b"that one", rig.now)
    grant = rig.grants()[0]

    assert (grant.task, grant.task.input) == (task, b"that one")
    rig.start(task)
    assert (task.attempt, task.failures) == (2, 0)


def test_an_answer_nobody_asked_for_is_refused() -> None:
    rig = Rig()
    task = rig.running()

    with pytest.raises(FailedPrecondition) as refused:
        rig.core.control.answer(task, b"", rig.now)

    assert refused.value.reason == "INPUT_NOT_REQUIRED"


def test_canceling_a_dependency_fails_what_waits_for_it() -> None:
    rig = Rig()
    root = rig.submit_one()
    child = rig.task(rig.submit(created(depends_on=[root.task_id]))[0])

    rig.core.control.cancel(root, "", rig.now)
    rig.take()

    assert child.state is State.FAILED
