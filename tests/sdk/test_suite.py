from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from podium.sdk.agent import Agent
from podium.sdk.context import Context
from podium.sdk.errors import (
    FailedPrecondition,
    Final,
    NotFound,
    Retryable,
    TaskCanceled,
    TaskExpired,
    TaskFailed,
)
from podium.sdk.testing import Suite

RUN = ["created", "queued", "assigned", "started"]
FAILED_ONCE = [*RUN, "attempt_failed", "retrying", "queued", "assigned", "started"]


def shouting(agent_id: str = "a1", **settings: Any) -> Agent:
    agent = Agent("worker", agent_id=agent_id, **settings)

    @agent.handles("text.shout")
    async def shout(text: str) -> str:
        return text.upper()

    return agent


def failing(agent_id: str, *errors: Exception | None, done: str = "done") -> Agent:
    """Returns an agent that raises these, one an attempt, and then succeeds."""
    agent = Agent("worker", agent_id=agent_id)
    left = list(errors)

    @agent.handles("work")
    async def work(payload: Any) -> str:
        error = left.pop(0) if left else None
        if error is not None:
            raise error
        return f"{done} by {agent_id}"

    return agent


def waiting(agent_id: str = "a1", capacity: int = 1) -> tuple[Agent, asyncio.Event]:
    """Returns an agent whose work lasts until the event is set."""
    agent = Agent("worker", agent_id=agent_id, capacity=capacity)
    proceed = asyncio.Event()

    @agent.handles("work")
    async def work(payload: Any) -> str:
        await proceed.wait()
        return f"done by {agent_id}"

    return agent, proceed


async def test_a_task_goes_to_an_agent_and_comes_back() -> None:
    async with Suite(shouting()) as suite:
        task = await suite.submit("text.shout", "hello")

        assert await task.result() == "HELLO"

    assert task.events == [*RUN, "completed"]
    assert (task.state, task.agents) == ("COMPLETED", ["a1"])


async def test_a_failed_attempt_is_repeated_after_a_wait_on_the_suites_clock() -> None:
    async with Suite(failing("a1", Retryable("busy"), ValueError("odd"))) as suite:
        task = await suite.submit("work")

        assert await task.result() == "done by a1"

    assert [event.type for event in task.log].count("retrying") == 2
    assert 0 < suite.now_s < 0.2 + 0.4
    assert [event.reason for event in task.log if event.type == "attempt_failed"] == [
        "HANDLER_ERROR",
        "HANDLER_ERROR",
    ]


async def test_retries_are_spent_and_a_final_error_needs_none() -> None:
    endless = failing("a1", *[Retryable("busy", reason="BUSY")] * 9)
    async with Suite(endless, max_retries=2) as suite:
        task = await suite.submit("work")
        with pytest.raises(TaskFailed) as caught:
            await task.result()
        assert (caught.value.reason, len(task.agents)) == ("BUSY", 3)

        once = await suite.submit("work", max_retries=0)
        with pytest.raises(TaskFailed):
            await once.result()
        assert len(once.agents) == 1

    async with Suite(failing("a1", Final("never", reason="NEVER"))) as suite:
        task = await suite.submit("work")
        with pytest.raises(TaskFailed, match="NEVER: never"):
            await task.result()
        assert task.events == [*RUN, "attempt_failed", "failed"]


async def test_a_retry_goes_to_another_agent_while_there_is_one() -> None:
    first = failing("a1", *[Retryable("busy")] * 9)
    second = failing("a2", *[Retryable("busy")] * 9)
    async with Suite(first, second, failing("a3")) as suite:
        task = await suite.submit("work")
        await task.result()

    assert sorted(task.agents) == sorted(set(task.agents))


async def test_the_urgent_task_comes_first_and_an_agent_takes_no_more_than_it_can() -> None:
    agent, proceed = waiting(capacity=2)
    async with Suite(agent) as suite:
        tasks = [await suite.submit("work", n, priority=n) for n in (5, 5, 1, 9)]
        assert [task.state for task in tasks] == ["ASSIGNED", "ASSIGNED", "QUEUED", "QUEUED"]
        proceed.set()
        await tasks[3].result()
        assert tasks[2].log[-1].at_s == tasks[3].log[-1].at_s
        await tasks[2].result()

    started = [e for task in tasks for e in task.log if e.type == "assigned"]
    assert len(started) == 4


async def test_a_task_nobody_can_work_on_is_told_instead_of_waited_for() -> None:
    async with Suite(shouting()) as suite:
        task = await suite.submit("text.shout", "x", capabilities=["text.shout", "gpu"])

        with pytest.raises(AssertionError, match=r"no agent can work on task-1: gpu, text\.shout"):
            await task.result()


async def test_cancelling_reaches_the_handler() -> None:
    agent = Agent("worker", agent_id="a1")
    cleaned = []

    @agent.handles("work")
    async def work(payload: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    async with Suite(agent) as suite:
        task = await suite.submit("work")
        await task.reaches("RUNNING")
        assert await task.cancel("no longer wanted")
        await suite.settle()
        assert cleaned
        assert not await task.cancel()
        with pytest.raises(TaskCanceled, match="no longer wanted"):
            await task.result()

    assert task.events == [*RUN, "canceled"]
    assert suite.ledger.fenced == 1


async def test_an_attempt_that_runs_too_long_is_stopped_and_repeated() -> None:
    slow, _ = waiting("a1")
    async with Suite(slow, failing("a2")) as suite:
        task = await suite.submit("work", attempt_timeout_s=10.0)
        if task.agents == ["a2"]:
            raise AssertionError("the first agent of equals is taken")
        await suite.advance(9.9)
        assert task.state == "RUNNING"
        await suite.advance(0.1)
        assert await task.result() == "done by a2"

    assert task.log[4].reason == "ATTEMPT_TIMEOUT"
    assert task.log[4].at_s == 10.0


async def test_a_deadline_ends_a_task_wherever_it_is() -> None:
    agent, _ = waiting()
    async with Suite(agent) as suite:
        running = await suite.submit("work", deadline=timedelta(seconds=60))
        queued = await suite.submit("work", deadline=timedelta(seconds=30))
        await suite.advance(60)
        for task in (running, queued):
            with pytest.raises(TaskExpired):
                await task.result()

    assert (running.log[-1].at_s, queued.log[-1].at_s) == (60, 30)


async def test_a_task_waits_for_its_time_and_for_others() -> None:
    async with Suite(shouting(), failing("a2", *[Final("never")])) as suite:
        first = await suite.submit("text.shout", "a", not_before=timedelta(seconds=5))
        second = await suite.submit("text.shout", "b", depends_on=[first.task_id])
        assert (first.state, second.state) == ("CREATED", "CREATED")
        assert await second.result() == "B"
        assert suite.now_s == 5.0

        broken = await suite.submit("work")
        behind = await suite.submit("text.shout", "c", depends_on=[broken.task_id])
        with pytest.raises(TaskFailed, match="DEPENDENCY_FAILED"):
            await behind.result()
        with pytest.raises(NotFound):
            await suite.submit("work", depends_on=["task-99"])


async def test_the_same_request_is_the_same_task() -> None:
    async with Suite(shouting()) as suite:
        first = await suite.submit("text.shout", "a", request_id="r")
        again = await suite.submit("text.shout", "a", request_id="r")

    assert first.task_id == again.task_id


async def test_a_lost_agents_work_goes_on_elsewhere_from_the_checkpoint() -> None:
    def counting(agent_id: str) -> Agent:
        agent = Agent("worker", agent_id=agent_id)

        @agent.handles("count")
        async def count(payload: Any, task: Context) -> str:
            done = task.resume_from() or 0
            if done == 0:
                task.checkpoint(7)
                await asyncio.Event().wait()
            return f"{done} counted, {agent_id} goes on"

        return agent

    async with Suite(counting("a1"), counting("a2")) as suite:
        task = await suite.submit("count")
        await task.reaches("RUNNING")
        await suite.settle()
        (first,) = task.agents
        suite.lose(first)
        other = {"a1": "a2", "a2": "a1"}[first]

        assert await task.result() == f"7 counted, {other} goes on"

    assert task.events == [*RUN, "progress", *FAILED_ONCE[4:], "completed"]
    assert task.log[5].reason == "AGENT_LOST"


async def test_a_frozen_agents_lease_runs_out_and_its_late_result_changes_nothing() -> None:
    slow, proceed = waiting("a1")
    async with Suite(slow) as suite:
        task = await suite.submit("work")
        await task.reaches("RUNNING")
        suite.freeze("a1")
        await suite.advance(29)
        assert task.state == "RUNNING"
        await suite.advance(1)
        assert task.state == "RETRY_WAIT"
        proceed.set()
        await suite.settle()
        suite.thaw("a1")
        assert await task.result() == "done by a1"

    assert task.events == [*FAILED_ONCE, "completed"]
    assert task.log[4].reason == "LEASE_EXPIRED"
    assert suite.ledger.fenced == 1


async def test_an_agent_that_lives_keeps_its_lease_for_as_long_as_it_takes() -> None:
    slow, proceed = waiting("a1")
    async with Suite(slow) as suite:
        task = await suite.submit("work")
        await suite.advance(3600)
        assert task.state == "RUNNING"
        proceed.set()
        await task.result()

    assert len(task.agents) == 1


async def test_a_question_is_answered() -> None:
    agent = Agent("worker", agent_id="a1")

    @agent.handles("ask")
    async def ask(payload: Any, task: Context) -> str:
        return f"told {task.need_input('which?')}"

    async with Suite(agent) as suite:
        task = await suite.submit("ask")
        with pytest.raises(
            AssertionError, match=r"nothing happens any more: task-1 asks 'which\?'"
        ):
            await task.result()
        await task.reaches("INPUT_REQUIRED")
        assert task.question == "which?"
        await task.provide_input("that")
        assert await task.result() == "told that"
        with pytest.raises(FailedPrecondition, match="does not wait for the answer to anything"):
            await task.provide_input("more")

    parts = ["input_required", "input_provided", "assigned", "started", "completed"]
    assert task.events == [*RUN, *parts]


@pytest.mark.parametrize("plain", [False, True])
async def test_children_are_tasks_of_the_same_trace(plain: bool) -> None:
    agent = Agent("parent", agent_id="p1")

    @agent.handles("parent")
    async def parent(words: list[str], task: Context) -> str:
        children = [await task.submit("text.shout", word) for word in words]
        return " ".join([await child.result() for child in children])

    @agent.handles("plain")
    def plainly(words: list[str], task: Context) -> str:
        children = [task.wait_for(task.submit("text.shout", word)) for word in words]
        return " ".join(task.wait_for(child.result()) for child in children)

    async with Suite(agent, shouting()) as suite:
        task = await suite.submit("plain" if plain else "parent", ["a", "b"])
        assert await task.result() == "A B"
        children = suite.tasks[1:]

    assert [child.spec.parent_task_id for child in children] == [task.task_id] * 2
    traces = {each.spec.traceparent.split("-")[1] for each in suite.tasks}
    assert len(traces) == 1


async def test_time_passes_for_a_parent_that_waits_for_a_child() -> None:
    agent = Agent("parent", agent_id="p1")

    @agent.handles("parent")
    async def parent(payload: Any, task: Context) -> Any:
        return await (await task.submit("work")).result()

    async with Suite(agent, failing("a1", Retryable("busy"))) as suite:
        task = await suite.submit("parent")

        assert await task.result() == "done by a1"


async def test_pieces_and_usage_can_be_looked_at() -> None:
    agent = Agent("worker", agent_id="a1")

    @agent.handles("tell")
    async def tell(payload: Any, task: Context) -> AsyncIterator[str]:
        yield "once "
        task.usage(output_tokens=2, cost=0.5)
        yield "more"

    async with Suite(agent) as suite:
        task = await suite.submit("tell")
        assert await task.result() == "once more"

    assert "".join(task.partials) == "once more"
    assert (task.usage.output_tokens, task.usage.cost) == (2, 0.5)


async def test_an_agent_that_declines_costs_no_attempt() -> None:
    agent = shouting("a1", capacity=1)
    async with Suite(agent) as suite:
        suite.ledger.slots["a1"].capabilities = {**agent.versions, "other": ""}
        task = await suite.submit("other")
        await suite.settle()

    assert task.agents == []
    assert "handed_back" in task.events


async def test_time_stands_still_while_one_of_several_children_works() -> None:
    slow, proceed = waiting("a1", capacity=3)
    agent = Agent("parent", agent_id="p1")

    @agent.handles("parent")
    async def parent(payload: Any, task: Context) -> Any:
        children = [await task.submit("work", deadline=timedelta(seconds=9)) for _ in range(3)]
        return await asyncio.gather(*(child.result() for child in children))

    async with Suite(agent, slow) as suite:
        task = await suite.submit("parent")
        asking = asyncio.create_task(task.result())
        await suite.settle()
        await suite.settle()
        assert suite.now_s == 0
        proceed.set()
        assert await asking == ["done by a1"] * 3


async def test_a_frozen_agents_handler_is_not_waited_for() -> None:
    stuck, _ = waiting("a1")
    async with Suite(stuck, failing("a2")) as suite:
        task = await suite.submit("work")
        await task.reaches("RUNNING")
        suite.freeze("a1")
        assert await task.result() == "done by a2"

    assert 30 <= suite.now_s < 31
