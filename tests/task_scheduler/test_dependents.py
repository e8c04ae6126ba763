from __future__ import annotations

import pytest

from services.task_scheduler.core import dependents
from services.task_scheduler.core.snapshot import Picture
from services.task_scheduler.core.states import Kind, State
from tests.task_scheduler.rig import Rig, created
from tests.task_scheduler.test_waits import FAR, blocked_by


def test_what_follows_from_the_end_of_a_task_is_done_in_slices(monkeypatch) -> None:
    monkeypatch.setattr(dependents, "FOLLOWED_LEN_MAX", 3)
    rig = Rig()
    first = rig.submit_one(terms=FAR)
    tasks = blocked_by(rig, first, 7)

    rig.core.control.cancel(first, "", rig.now)
    ended = []
    while not ended or rig.core.more:
        rig.take()
        ended.append(sum(task.ended for task in tasks))
        if rig.core.more:
            with pytest.raises(AssertionError, match="between two steps"):
                Picture(rig.book)

    assert ended == [3, 6, 7]
    Picture(rig.book).drop()


def test_slices_go_on_where_a_killed_scheduler_stopped(monkeypatch) -> None:
    monkeypatch.setattr(dependents, "FOLLOWED_LEN_MAX", 1)
    rig = Rig()
    done, vain = rig.running(), rig.submit_one(terms=FAR)
    ready, failing = blocked_by(rig, done, 3), blocked_by(rig, vain, 3)
    rig.complete(rig.lease(done))
    rig.core.control.cancel(vain, "", rig.now)
    rig.take()
    assert {task.state for task in ready + failing} > {State.CREATED}

    again = rig.restarted()
    again.core.start(again.now)
    for _ in range(6):
        again.take()

    assert {again.task(task.task_id).state for task in ready} == {State.QUEUED}
    assert {again.task(task.task_id).state for task in failing} == {State.FAILED}


def test_tasks_that_waited_for_the_same_are_queued_as_they_were_submitted() -> None:
    rig = Rig()
    first, other = rig.running(), rig.running()
    both = [first.task_id, other.task_id]
    tasks = [rig.task(i) for i in rig.submit(*[created("later", depends_on=both)] * 3)]
    rig.fail(rig.lease(first), retryable=False)
    for task in (first, tasks[2], tasks[0], tasks[1]):
        rig.core.control.requeue(task, None, rig.now)
    rig.take()
    rig.start(first)
    rig.complete(rig.lease(first))
    rig.complete(rig.lease(other))

    assert [task.task_id for task in rig.book.queue.waiting()] == [task.task_id for task in tasks]


def test_who_is_revived_before_its_dependents_were_told_is_waited_for_again(monkeypatch) -> None:
    monkeypatch.setattr(dependents, "FOLLOWED_LEN_MAX", 1)
    rig = Rig()
    first = rig.running()
    told, untold = blocked_by(rig, first, 2)
    rig.fail(rig.lease(first), retryable=False)
    assert (told.state, untold.state) == (State.FAILED, State.CREATED)

    rig.core.control.requeue(first, None, rig.now)
    rig.take()
    assert (untold.state, untold.open_dependencies) == (State.CREATED, 1)
    rig.start(first)
    rig.complete(rig.lease(first))
    rig.take()
    assert rig.kinds(untold) == [Kind.CREATED, Kind.QUEUED]


def test_a_restart_judges_nobody_by_what_was_settled_before() -> None:
    rig = Rig()
    first = rig.running()
    second = rig.submit_one("later", depends_on=[first.task_id])
    third = rig.submit_one("later", depends_on=[first.task_id])
    rig.fail(rig.lease(first), retryable=False)
    assert {first.state, second.state, third.state} == {State.FAILED}
    rig.core.control.requeue(third, None, rig.now, ignore_dependencies=True)
    rig.core.control.pause(third, "", rig.now)
    rig.core.control.requeue(first, None, rig.now)
    rig.core.control.requeue(second, None, rig.now)
    rig.take()

    again = rig.restarted()
    again.core.start(again.now)
    again.take()

    states = [again.task(task.task_id).state for task in (first, second, third)]
    assert states == [State.ASSIGNED, State.CREATED, State.PAUSED]
    assert again.task(second.task_id).open_dependencies == 1
    assert again.kinds()[-1] is Kind.EPOCH_BEGUN
