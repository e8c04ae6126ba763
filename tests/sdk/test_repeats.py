"""Repeats of a submit in `podium.sdk.testing`, as a real scheduler takes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from podium.sdk.agent import Agent
from podium.sdk.context import Context
from podium.sdk.errors import AlreadyExists, TaskExpired
from podium.sdk.testing import Suite, run_handler

agent = Agent("worker", agent_id="a1")


@agent.handles("work")
async def work(text: str) -> str:
    return text


@agent.handles("late")
async def late(text: str, task: Context) -> str:
    return task.spec.deadline.ToDatetime(tzinfo=UTC).isoformat()


@agent.handles("parent")
async def parent(text: str, task: Context) -> str:
    span = timedelta(seconds=5)
    first = await task.submit("child", text, once="c", deadline=span)
    again = await task.submit("child", text, once="c", deadline=span)
    try:
        await task.submit("child", "another", once="c", deadline=span)
    except AlreadyExists:
        return str(first.task_id == again.task_id)
    return "another task was taken for the first"


async def test_a_repeat_with_spans_is_the_same_task_however_late() -> None:
    spans = {"deadline": timedelta(seconds=60), "not_before": timedelta(seconds=2)}
    async with Suite(agent) as suite:
        first = await suite.submit("work", "a", request_id="r", **spans)
        await suite.advance(30)
        again = await suite.submit("work", "a", request_id="r", **spans)

        assert first.task_id == again.task_id
        assert [event.at_s for event in first.log if event.type == "queued"] == [2]


async def test_another_task_under_the_same_key_is_refused() -> None:
    async with Suite(agent) as suite:
        await suite.submit("work", "a", request_id="r", deadline=timedelta(seconds=60))
        for other in (timedelta(seconds=61), datetime(2024, 1, 1, 0, 1, tzinfo=UTC)):
            with pytest.raises(AlreadyExists) as refused:
                await suite.submit("work", "a", request_id="r", deadline=other)
            assert refused.value.reason == "IDEMPOTENCY_KEY_REUSED"


async def test_a_handler_sees_the_time_and_not_the_span() -> None:
    async with Suite(agent) as suite:
        await suite.advance(10)
        task = await suite.submit("late", "x", deadline=timedelta(seconds=60))
        assert await task.result() == "2024-01-01T00:01:10+00:00"

        gone = await suite.submit("nobody", "x", deadline=timedelta(seconds=1))
        await suite.advance(1)
        with pytest.raises(TaskExpired):
            await gone.result()


async def test_children_are_told_apart_and_keep_their_spans() -> None:
    async with Suite(agent) as suite:
        assert await (await suite.submit("parent", "x")).result() == "True"
        assert len(suite.tasks) == 2

    run = await run_handler(agent, "parent", "x", children={"child": "done"})
    assert run.result == "True"
    assert [child.spec.deadline_after.seconds for child in run.children] == [5]
