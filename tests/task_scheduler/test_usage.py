"""What attempts consume: it counts however they end, and against the task's budget."""

from __future__ import annotations

import pytest

from services.task_scheduler.core.event import Progress, Terms, Usage
from services.task_scheduler.core.orders import Settlement
from services.task_scheduler.core.retry import RetryPolicy
from services.task_scheduler.core.states import State
from services.task_scheduler.core.task import Task
from services.task_scheduler.servicer.views import task_message
from tests.task_scheduler.rig import Rig

NO_WAIT = RetryPolicy(max_retries=3, initial_backoff_ms=0)


def test_a_spent_budget_ends_the_retries() -> None:
    rig = Rig()
    task = rig.running(terms=Terms(policy=NO_WAIT, max_tokens=100))
    rig.fail(rig.lease(task), usage=Usage(60, 30, 0.0))
    rig.advance(0.5)
    rig.start(task)
    rig.fail(rig.lease(task), usage=Usage(10, 0, 0.0))

    assert task.state is State.FAILED
    assert task.failure is not None and task.failure.reason == "BUDGET_EXCEEDED"
    assert task.usage == Usage(70, 30, 0.0)


def ask(rig: Rig, task: Task, usage: Usage | None) -> None:
    rig.core.outcomes.asked("r1", rig.lease(task), "a1", b"which?", usage, rig.now)
    rig.take()


def test_what_was_used_before_a_question_counts() -> None:
    rig = Rig()
    task = rig.running(terms=Terms(policy=NO_WAIT, max_tokens=100))
    ask(rig, task, Usage(60, 30, 0.25))
    assert (task.state, task.usage) == (State.INPUT_REQUIRED, Usage(60, 30, 0.25))

    rig.core.control.answer(task, b"!", rig.now)
    rig.start(task)
    rig.fail(rig.lease(task), usage=Usage(10, 0, 0.5))

    assert (task.state, task.usage) == (State.FAILED, Usage(70, 30, 0.75))
    assert [attempt.usage for attempt in task.attempts] == [
        Usage(60, 30, 0.25),
        Usage(10, 0, 0.5),
    ]


def test_a_question_that_took_more_than_the_budget_ends_the_task() -> None:
    rig = Rig()
    task = rig.running(terms=Terms(max_tokens=100))
    ask(rig, task, Usage(60, 41, 0.0))

    assert task.state is State.FAILED
    assert task.failure is not None and task.failure.reason == "BUDGET_EXCEEDED"
    assert rig.settlements() == [Settlement.REFUSED]


def report(rig: Rig, task: Task, usage: Usage, number: int = 1) -> None:
    progress = Progress(0.5, "half", b"", usage, b"", number)
    rig.core.outcomes.progressed("r1", rig.lease(task), "a1", progress, rig.now)
    rig.take()


@pytest.mark.parametrize("end", ["lost", "canceled", "ran out"])
def test_what_an_attempt_reported_counts_however_it_ends(end: str) -> None:
    rig = Rig()
    task = rig.running(terms=Terms(policy=NO_WAIT))
    report(rig, task, Usage(60, 30, 0.25))
    assert task.usage is None, "it is summed up at the attempt's end"

    if end == "lost":
        rig.fail(rig.lease(task))
    elif end == "canceled":
        rig.core.control.cancel(task, "enough", rig.now)
    else:
        rig.core.outcomes.run_out(task, rig.now)
    rig.take()

    assert task.usage == Usage(60, 30, 0.25)
    assert rig.restarted().book.tasks[task.task_id].usage == task.usage


def test_a_dead_letter_may_consume_its_budget_anew_when_it_is_revived() -> None:
    rig = Rig()
    task = rig.running(terms=Terms(policy=NO_WAIT, max_tokens=100))
    report(rig, task, Usage(200, 0, 1.0))
    assert task.failure is not None and task.failure.reason == "BUDGET_EXCEEDED"

    rig.core.control.requeue(task, None, rig.now)
    rig.take()
    rig.start(task)
    report(rig, task, Usage(100, 0, 0.5))
    assert task.state is State.RUNNING

    again = rig.restarted()
    for one in (rig, again):
        found = one.task(task.task_id)
        report(one, found, Usage(101, 0, 0.5), 2)
        assert (found.state, found.usage) == (State.FAILED, Usage(101, 0, 0.5))
        # Who looks at it is told what it has cost in all.
        assert found.total_usage == Usage(301, 0, 1.5)
        assert task_message(found, payloads=False).usage.input_tokens == 301
