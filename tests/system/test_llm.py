"""An agent that asks a language model, with the real services and a real HTTP endpoint."""

from __future__ import annotations

import asyncio

import pytest

from podium.sdk.client import Client
from podium.sdk.completions import Endpoint
from podium.sdk.errors import TaskCanceled
from podium.sdk.llm import LLMAgent
from podium.v1 import event_pb2, task_pb2
from tests.sdk.endpoint import FakeModel, hanging, refusing, saying, serving
from tests.support.waiting import eventually
from tests.system.conftest import Hosting

pytestmark = pytest.mark.asyncio(loop_scope="module")


def chatting(agent_id: str, endpoint: Endpoint, task_type: str) -> LLMAgent:
    return LLMAgent(
        agent_id,
        agent_id=agent_id,
        model="small",
        endpoint=endpoint,
        prompts={task_type: "$text"},
        input_price=0.5,
        output_price=2.0,
    )


async def test_deltas_are_progress_as_they_come_and_tokens_are_usage(
    podium: Client, hosting: Hosting
) -> None:
    model = FakeModel()
    model.behave = hanging
    pieces: list[str] = []
    async with serving(model) as endpoint, hosting(chatting("llm-a", endpoint, "llm.a")):
        task = await podium.submit("llm.a", "hi")
        async with asyncio.timeout(10):
            async for event in task.events():
                if event.type == event_pb2.Event.TYPE_PROGRESS:
                    pieces.append(event.progress.partial.data.decode())
                if pieces == ["Hel"]:
                    model.proceed.set()  # the rest comes only when the first piece was seen
        assert await task.result(10) == "Hello"

        model.behave = saying("fine", read=100, written=20)
        counted = await podium.submit("llm.a", "how are you?")
        assert await counted.result(10) == "fine"
        ended = await podium.get(counted.task_id)

    assert "".join(pieces) == "Hello"
    assert ended.usage == task_pb2.Usage(input_tokens=100, output_tokens=20, cost=0.09)


async def test_a_rate_limit_costs_a_pause_and_not_the_task(
    podium: Client, hosting: Hosting
) -> None:
    model = FakeModel()
    busy = refusing(429, {"error": {"message": "slow down"}}, **{"Retry-After": "1"})
    model.behave = busy
    async with serving(model) as endpoint, hosting(chatting("llm-b", endpoint, "llm.b")):
        task = await podium.submit("llm.b", "hi", max_retries=1)
        await eventually(lambda: model.requests)
        model.behave = saying("at last")
        assert await task.result(20) == "at last"
        ended = await podium.get(task.task_id)

    assert [attempt.failure.reason for attempt in ended.attempts] == ["LLM_RATE_LIMITED", ""]
    assert len(model.requests) == 2


async def test_canceling_a_task_closes_its_request(podium: Client, hosting: Hosting) -> None:
    model = FakeModel()
    model.behave = hanging
    async with serving(model) as endpoint, hosting(chatting("llm-c", endpoint, "llm.c")):
        task = await podium.submit("llm.c", "hi")
        await eventually(lambda: model.requests)
        assert await task.cancel()
        with pytest.raises(TaskCanceled):
            await task.result(10)
        async with asyncio.timeout(10):
            await model.closed.wait()
