"""What handlers can do, against the real services: each ability from the client and back."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from podium.sdk.agent import Agent
from podium.sdk.client import Client
from podium.sdk.context import Context
from podium.sdk.errors import Final, Retryable, TaskCanceled, TaskFailed
from podium.sdk.handle import TaskHandle
from podium.sdk.host import AgentHost
from podium.v1 import event_pb2, task_pb2
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


async def test_agents_that_are_replaced_under_load_lose_nothing_and_repeat_nothing(
    podium: Client, hosting: Hosting
) -> None:
    """Each time the stream is opened anew, while the one before still brings tasks."""
    runs: Counter[int] = Counter()

    def made(capacity: int) -> Agent:
        agent = Agent("moving", agent_id="moving", capacity=capacity)

        @agent.handles("moving")
        async def work(number: int) -> int:
            runs[number] += 1
            await asyncio.sleep(0.3)
            return number

        return agent

    tasks: list[TaskHandle] = []

    async def feed() -> None:
        while True:
            tasks.append(await podium.submit("moving", len(tasks)))

    async def move(host: AgentHost, capacity: int) -> None:
        assert host._session is not None
        more, streams = len(tasks) + 5, host._session.connect_count
        await eventually(lambda: len(tasks) >= more)
        await host.replace([made(capacity)])
        await eventually(lambda: host._session and host._session.connect_count > streams)

    async with hosting(made(100)) as host:
        feeding = asyncio.create_task(feed())
        for turn in range(20):
            await move(host, 101 + turn % 2)
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        for number, task in enumerate(tasks):
            assert await task.result(10) == number
            assert "ATTEMPT_FAILED" not in await told(task)

    assert set(runs.values()) == {1}


@dataclass
class Words:
    count: int


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

    assert caught.value.reason == "BUDGET_EXCEEDED"
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
