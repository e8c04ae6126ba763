"""Tasks that handlers submit, against the real services."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from podium.sdk.agent import Agent
from podium.sdk.client import Client
from podium.sdk.context import Context
from podium.sdk.errors import NotFound, Retryable
from podium.v1 import analytics_pb2
from tests.support.waiting import eventually
from tests.system.conftest import Hosting

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Words:
    count: int


async def chain(podium: Client, child_id: str, parent_id: str) -> list[str]:
    """Returns the names of spans from a child's execution upwards to the root of its trace."""
    spans: dict[str, analytics_pb2.Span] = {}
    for task_id in (child_id, parent_id):
        with suppress(NotFound):  # not yet
            spans.update({s.span_id: s for s in (await podium.trace(task_id)).spans})
    executed = (s for s in spans.values() if s.name == "execute")
    at = next((s for s in executed if s.attributes["task.id"] == child_id), None)
    names = []
    while at is not None:
        names.append(at.name)
        at = spans.get(at.parent_span_id)
    return names


async def test_a_handler_gives_part_of_its_work_to_children(
    podium: Client, hosting: Hosting
) -> None:
    parent, other = Agent("p", agent_id="p1"), Agent("o", agent_id="o1", capacity=4)
    children: list[str] = []

    @parent.handles("tree.sum")
    async def total(texts: list[str], task: Context) -> int:
        handles = [await task.submit("tree.count", text) for text in texts]
        children.extend(handle.task_id for handle in handles)
        return sum([(await handle.result(10, into=Words)).count for handle in handles])

    @other.handles("tree.count")
    async def count(text: str) -> Words:
        return Words(len(text.split()))

    async with hosting(parent, other):
        task = await podium.submit("tree.sum", ["a b", "c", "d e f"], tenant="acme")
        assert await task.result(10) == 6
        made = [await podium.get(child) for child in children]

    assert {child.spec.parent_task_id for child in made} == {task.task_id}
    assert {child.spec.tenant for child in made} == {"acme"}
    trace_ids = {child.spec.traceparent.split("-")[1] for child in made}
    assert trace_ids == {task.traceparent.split("-")[1]}


async def test_a_childs_spans_are_below_the_handler_that_submitted_it(
    podium: Client, hosting: Hosting
) -> None:
    agent = Agent("t", agent_id="t1", capacity=2)

    children: list[str] = []

    @agent.handles("trace.parent")
    async def parent(payload: Any, task: Context) -> None:
        child = await task.submit("trace.child")
        children.append(child.task_id)
        await child.result(10)

    @agent.handles("trace.child")
    async def child(payload: Any) -> None:
        return None

    async with hosting(agent):
        task = await podium.submit("trace.parent")
        await task.result(10)
    below = ["execute", "assign", "route", "submit"]

    async def connected() -> bool:
        return await chain(podium, children[0], task.task_id) == below * 2

    await eventually(connected)


async def test_a_repeated_attempt_finds_the_child_of_the_first_one(
    podium: Client, hosting: Hosting
) -> None:
    agent = Agent("r", agent_id="r1", capacity=2)
    children: list[str] = []
    runs: list[str] = []

    @agent.handles("once.parent")
    async def parent(payload: Any, task: Context) -> str:
        child = await task.submit("once.child", once="the only one")
        children.append(child.task_id)
        answer: str = await child.result(10)
        if task.attempt == 1:
            raise Retryable("not yet")
        return answer

    @agent.handles("once.child")
    async def child(payload: Any, task: Context) -> str:
        runs.append(task.task_id)
        return "done"

    async with hosting(agent):
        task = await podium.submit("once.parent", max_retries=1)
        assert await task.result(20) == "done"

    assert len(children) == 2
    assert len(set(children)) == len(runs) == 1


async def test_a_handler_in_a_thread_waits_for_children_too(
    podium: Client, hosting: Hosting
) -> None:
    agent = Agent("h", agent_id="h1", capacity=2)

    @agent.handles("thread.parent")
    def parent(payload: str, task: Context) -> str:
        child = task.wait_for(task.submit("thread.child", payload))
        return f"{threading.current_thread().name}: {task.wait_for(child.result(10))}"

    @agent.handles("thread.child")
    async def child(payload: str) -> str:
        return payload.upper()

    async with hosting(agent):
        result = await (await podium.submit("thread.parent", "abc")).result(10)

    assert result.startswith("podium-handler") and result.endswith(": ABC")
