"""What handlers can do, against the real services: each ability from the client and back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from podium.sdk.agent import Agent
from podium.sdk.client import Client
from podium.sdk.context import Context
from podium.sdk.errors import Final, NotFound, Retryable, TaskCanceled, TaskFailed
from podium.sdk.handle import TaskHandle
from podium.v1 import analytics_pb2, event_pb2, task_pb2
from tests.support.waiting import eventually
from tests.system import pooled
from tests.system.conftest import Hosting

State = task_pb2.Task.State
Type = event_pb2.Event.Type

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def state(podium: Client, task: TaskHandle, wanted: State) -> task_pb2.Task:
    """Waits until a task is in a state, and returns it."""
    last = task_pb2.Task()

    async def reached() -> task_pb2.Task | None:
        nonlocal last
        last = await podium.get(task.task_id)
        return last if last.state == wanted else None

    found = await eventually(reached, told=lambda: str(last))
    assert found is not None
    return found


async def told(task: TaskHandle) -> list[str]:
    """Returns the types of a task's events, from its creation to its end."""
    async with asyncio.timeout(10):
        return [Type.Name(event.type).removeprefix("TYPE_") async for event in task.events()]


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


# --- Children ------------------------------------------------------------------------------------


@dataclass
class Words:
    count: int


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


# --- Questions -----------------------------------------------------------------------------------


async def test_questions_park_a_task_and_their_answers_bring_it_back(
    podium: Client, hosting: Hosting
) -> None:
    agent = Agent("q", agent_id="q1")

    @agent.handles("trip.plan")
    async def plan(payload: str, task: Context) -> dict[str, Any]:
        known = task.resume_from() or {}
        for name in ("where", "when"):
            if name not in known:
                known[name] = task.need_input({"question": name})
                task.checkpoint(known)
        return {**known, "attempt": task.attempt}

    async with hosting(agent):
        task = await podium.submit("trip.plan", max_retries=0)
        for name, answer in (("where", "Rome"), ("when", ["May", 2])):
            asking = await state(podium, task, State.STATE_INPUT_REQUIRED)
            assert asking.input_request.data == b'{"question":"%s"}' % name.encode()
            await task.provide_input(answer)
            await eventually(partial(answered, podium, task, name))
        result = await task.result(10)
        events = await told(task)

    assert (result["where"], result["when"]) == ("Rome", ["May", 2])
    assert events.count("INPUT_REQUIRED") == events.count("INPUT_PROVIDED") == 2
    assert "ATTEMPT_FAILED" not in events


async def answered(podium: Client, task: TaskHandle, name: str) -> bool:
    """Whether the question of this name is no longer the one that is asked."""
    now = await podium.get(task.task_id)
    return name.encode() not in now.input_request.data


async def test_a_parked_task_leaves_its_agent_free(podium: Client, hosting: Hosting) -> None:
    agent = Agent("f", agent_id="f1", capacity=1)

    @agent.handles("park.ask")
    async def ask(payload: str, task: Context) -> str:
        answer: str = task.need_input("may I?")
        return answer

    @agent.handles("park.work")
    async def work(payload: str) -> str:
        return payload

    async with hosting(agent):
        parked = await podium.submit("park.ask")
        await state(podium, parked, State.STATE_INPUT_REQUIRED)
        done = [await podium.submit("park.work", str(number)) for number in range(3)]
        assert [await task.result(10) for task in done] == ["0", "1", "2"]
        await parked.provide_input("yes")
        assert await parked.result(10) == "yes"


async def test_a_question_may_be_canceled(podium: Client, hosting: Hosting) -> None:
    agent = Agent("g", agent_id="g1")

    @agent.handles("park.forget")
    async def ask(payload: str, task: Context) -> str:
        answer: str = task.need_input("may I?")
        return answer

    async with hosting(agent):
        parked = await podium.submit("park.forget")
        await state(podium, parked, State.STATE_INPUT_REQUIRED)
        assert await parked.cancel("nobody answers")
        with pytest.raises(TaskCanceled):
            await parked.result(10)


# --- Checkpoints, progress, usage ----------------------------------------------------------------


async def test_the_next_attempt_goes_on_from_the_last_checkpoint(
    podium: Client, hosting: Hosting
) -> None:
    agent = Agent("c", agent_id="c1")

    @agent.handles("pages.index")
    async def index(pages: int, task: Context) -> list[int]:
        begin = task.resume_from(int) or 0
        for page in range(begin, pages):
            task.checkpoint(page)
            if page == 7 and task.attempt == 1:
                raise Retryable("something broke")
        return [begin, task.attempt]

    async with hosting(agent):
        task = await podium.submit("pages.index", 10, max_retries=1)
        assert await task.result(20) == [7, 2]


async def test_a_watcher_sees_progress_and_every_piece_in_order(
    podium: Client, hosting: Hosting
) -> None:
    agent = Agent("w", agent_id="w1")
    seen = asyncio.Event()

    @agent.handles("text.tell")
    async def tell(subject: str, task: Context) -> AsyncIterator[str]:
        task.progress(0.25, "thinking")
        yield "Once upon "
        await seen.wait()
        yield f"a {subject}"

    pieces: list[str] = []
    messages: list[str] = []
    async with hosting(agent):
        task = await podium.submit("text.tell", "time")
        async with asyncio.timeout(10):
            async for event in task.events():
                if event.type == Type.TYPE_PROGRESS:
                    messages.append(event.progress.message)
                    pieces.append(event.progress.partial.data.decode())
                if "".join(pieces) == "Once upon ":
                    seen.set()
        assert await task.result(10) == "Once upon a time"

    assert "".join(pieces) == "Once upon a time"
    assert "thinking" in messages


async def test_what_attempts_consume_adds_up_and_shows_in_task_and_agent(
    podium: Client, hosting: Hosting
) -> None:
    agent = Agent("u", agent_id="u1")

    @agent.handles("llm.spend")
    async def spend(payload: Any, task: Context) -> str:
        task.usage(input_tokens=100, output_tokens=20, cost=0.5)
        if task.attempt == 1:
            raise Retryable("once more")
        return "done"

    async with hosting(agent):
        task = await podium.submit("llm.spend", max_retries=1)
        await task.result(20)
        ended = await podium.get(task.task_id)

    assert [attempt.usage.input_tokens for attempt in ended.attempts] == [100, 100]
    assert ended.usage == task_pb2.Usage(input_tokens=200, output_tokens=40, cost=1.0)


async def test_a_task_whose_budget_is_spent_is_not_tried_again(
    podium: Client, hosting: Hosting
) -> None:
    agent = Agent("b", agent_id="b1")

    @agent.handles("llm.waste")
    async def waste(payload: Any, task: Context) -> str:
        task.usage(input_tokens=100)
        raise Retryable("for nothing", reason="NO_USE")

    async with hosting(agent):
        task = await podium.submit("llm.waste", max_retries=5, max_tokens=50)
        with pytest.raises(TaskFailed) as caught:
            await task.result(20)
        ended = await podium.get(task.task_id)

    assert caught.value.reason == "BUDGET_SPENT"
    assert ended.attempt_count == 1


# --- Payloads, errors, cancellation, pools --------------------------------------------------------


async def test_a_payload_that_does_not_fit_ends_the_task_and_names_the_field(
    podium: Client, hosting: Hosting
) -> None:
    agent = Agent("m", agent_id="m1")

    @agent.handles("typed.count")
    async def count(words: Words) -> int:
        return words.count

    async with hosting(agent):
        assert await (await podium.submit("typed.count", Words(3))).result(10, into=int) == 3
        with pytest.raises(TaskFailed) as caught:
            await (await podium.submit("typed.count", {"count": "three"})).result(10)

    assert caught.value.reason == "INVALID_PAYLOAD"
    assert "count is not an integer" in caught.value.message


async def test_a_final_error_ends_a_task_and_others_are_tried_again(
    podium: Client, hosting: Hosting
) -> None:
    agent = Agent("e", agent_id="e1")

    @agent.handles("error.raise")
    async def fail(kind: str, task: Context) -> int:
        if task.attempt == 1:
            raise {"final": Final("never", reason="NEVER"), "other": KeyError("x")}[kind]
        return task.attempt

    async with hosting(agent):
        with pytest.raises(TaskFailed, match="NEVER: never"):
            await (await podium.submit("error.raise", "final")).result(10)
        assert await (await podium.submit("error.raise", "other")).result(20) == 2


async def test_a_canceled_task_stops_its_handler_at_once(podium: Client, hosting: Hosting) -> None:
    agent = Agent("k", agent_id="k1", capacity=2)
    stopped: list[str] = []

    @agent.handles("cancel.wait")
    async def wait(payload: Any, task: Context) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.append(task.cancel_reason)
            raise

    @agent.handles("cancel.thread")
    def look(payload: Any, task: Context) -> None:
        while not task.cancelled:
            time.sleep(0.005)
        stopped.append(task.cancel_reason)

    async with hosting(agent):
        tasks = [await podium.submit(kind) for kind in ("cancel.wait", "cancel.thread")]
        for task in tasks:
            await state(podium, task, State.STATE_RUNNING)
            assert await task.cancel()
            with pytest.raises(TaskCanceled):
                await task.result(10)
        await eventually(lambda: len(stopped) == 2)

    assert stopped == ["CANCELED", "CANCELED"]


async def test_an_attempt_that_takes_too_long_is_stopped_and_tried_again(
    podium: Client, hosting: Hosting
) -> None:
    agent = Agent("l", agent_id="l1")
    reasons: list[str] = []

    @agent.handles("slow.once")
    async def slow(payload: Any, task: Context) -> int:
        try:
            await asyncio.sleep(30 if task.attempt == 1 else 0)
        except asyncio.CancelledError:
            reasons.append(task.cancel_reason)
            raise
        return task.attempt

    async with hosting(agent):
        task = await podium.submit("slow.once", attempt_timeout_s=0.3, max_retries=1)
        assert await task.result(20) == 2

    assert reasons == ["ATTEMPT_TIMEOUT"]


async def test_handlers_run_in_processes_and_report_from_there(
    podium: Client, hosting: Hosting
) -> None:
    async with hosting(pooled.agent):
        task = await podium.submit("pool.work", 20)
        result = await task.result(20)
        events = [event async for event in task.events()]

    assert result["sum"] == 190 and result["own_process"]
    assert "in a process" in {event.progress.message for event in events}
    assert (await podium.get(task.task_id)).usage.input_tokens == 20
