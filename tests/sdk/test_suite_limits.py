"""The suite holds what a task may take: its time, its names, its question, its keys."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest

from podium.sdk.agent import Agent
from podium.sdk.context import Context
from podium.sdk.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    TaskExpired,
    TaskFailed,
)
from podium.sdk.testing import Suite
from tests.sdk.test_suite import waiting


async def test_an_attempt_that_hangs_is_ended_by_its_timeout_though_nobody_moves_the_clock() -> (
    None
):
    stuck, _ = waiting()
    began_s = time.monotonic()
    async with Suite(stuck, patience_s=0.02) as suite:
        task = await suite.submit("work", attempt_timeout_s=600.0, max_retries=1)
        with pytest.raises(TaskFailed) as caught:
            await task.result()

    assert caught.value.reason == "ATTEMPT_TIMEOUT"
    assert task.events.count("attempt_failed") == 2
    assert suite.now_s >= 1_200
    assert time.monotonic() - began_s < 60


async def test_a_handler_that_never_ends_is_told_instead_of_waited_for() -> None:
    slow, _ = waiting()
    async with Suite(slow, patience_s=0.01) as suite:
        task = await suite.submit("work")
        with pytest.raises(AssertionError, match=r"no handler has said anything for 0\.01 s"):
            await task.result()


async def test_a_short_timeout_passes_in_real_time_at_most() -> None:
    stuck, _ = waiting()
    async with Suite(stuck) as suite:
        task = await suite.submit("work", attempt_timeout_s=0.05, max_retries=0)
        with pytest.raises(TaskFailed, match="ATTEMPT_TIMEOUT"):
            await task.result()
        late = await suite.submit("work", deadline=timedelta(seconds=0.05))
        with pytest.raises(TaskExpired):
            await late.result()


@pytest.mark.parametrize(
    ("task_type", "options", "field"),
    [
        ("No Type", {}, "type"),
        ("work", {"capabilities": ["x@nope"]}, "required_capabilities[0]"),
        ("work", {"capabilities": ["x", "x@"]}, "required_capabilities[1]"),
        ("work", {"preferred": ["UP"]}, "preferred_capabilities[0]"),
    ],
)
async def test_names_that_no_scheduler_takes_are_refused(
    task_type: str, options: Any, field: str
) -> None:
    agent, _ = waiting()
    async with Suite(agent) as suite:
        with pytest.raises(InvalidArgument) as caught:
            await suite.submit(task_type, **options)

    assert [each.field for each in caught.value.violations] == [field]
    assert suite.tasks == []


async def test_an_answer_names_its_question() -> None:
    agent = Agent("worker", agent_id="a1")

    @agent.handles("ask")
    async def ask(payload: Any, task: Context) -> Any:
        known = task.resume_from() or {}
        if "first" not in known:
            task.checkpoint({"asked": True})
            known["first"] = task.need_input("first?")
            task.checkpoint(known)
        return [known["first"], task.need_input("second?")]

    async with Suite(agent) as suite:
        task = await suite.submit("ask")
        await task.reaches("INPUT_REQUIRED")
        first = task.question_epoch
        await task.provide_input("one", question=first)
        await task.reaches("INPUT_REQUIRED")

        await task.provide_input("one", question=first)  # repeated, as a client may
        assert task.question == "second?"
        with pytest.raises(AlreadyExists):
            await task.provide_input("another", question=first)
        with pytest.raises(FailedPrecondition):
            await task.provide_input("two", question=99)
        await task.provide_input("two", question=task.question_epoch)

        assert await task.result() == ["one", "two"]


async def test_a_key_lets_only_so_many_run() -> None:
    agent, proceed = waiting(capacity=9)
    async with Suite(agent) as suite:
        gpu: Any = {"concurrency_keys": ["gpu"], "concurrency_limit": 2}
        tasks = [await suite.submit("work", **gpu) for _ in range(3)]
        other = await suite.submit("work", tenant="other", **gpu)
        free = await suite.submit("work")
        await suite.settle()
        states = [task.state for task in (*tasks, other, free)]
        assert states == ["RUNNING", "RUNNING", "QUEUED", "RUNNING", "RUNNING"]

        proceed.set()
        assert await tasks[2].result() == "done by a1"


async def test_a_rate_lets_only_so_many_start_in_a_period() -> None:
    agent = Agent("worker", agent_id="a1", capacity=9)

    @agent.handles("mail")
    async def mail(number: int) -> int:
        return number

    async with Suite(agent) as suite:
        rate = [("mail", 2, timedelta(minutes=1))]
        tasks = [await suite.submit("mail", number, rate_limits=rate) for number in range(5)]
        await suite.settle()
        assert [task.done for task in tasks] == [True, True, False, False, False]

        assert await tasks[4].result() == 4
        assert [task.log[2].at_s for task in tasks] == [0, 0, 60, 60, 120]
