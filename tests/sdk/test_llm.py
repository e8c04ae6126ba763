from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from podium.sdk.llm import BASE_URL, CUT_MESSAGE, LLMAgent, Prompt
from podium.sdk.testing import run_handler, start_handler
from tests.sdk import endpoint as fake
from tests.sdk.endpoint import DONE, FakeModel, chunk, saying, sending, serving


async def test_a_chat_is_answered_in_pieces_with_its_price() -> None:
    model = FakeModel()
    async with serving(model) as endpoint:
        agent = LLMAgent(
            "chat", model="small", endpoint=endpoint, input_price=0.5, output_price=2.0
        )
        record = await run_handler(agent, "llm.chat", "hi")

    assert record.value() == "Hello world"
    assert "".join(record.partials) == "Hello world"
    assert (record.usage.input_tokens, record.usage.output_tokens) == (11, 3)
    assert record.usage.cost == pytest.approx(11 * 0.0005 + 3 * 0.002)
    assert model.requests[0]["model"] == "small"
    assert model.requests[0]["messages"] == [{"role": "user", "content": "hi"}]


async def test_an_answer_without_an_end_is_left_when_no_result_can_be_so_large() -> None:
    model = FakeModel()
    model.behave = fake.endless(chunk("again and again " * 64))
    async with serving(model) as endpoint:
        record = await run_handler(
            LLMAgent("chat", model="small", endpoint=endpoint), "llm.chat", "hi"
        )
        await model.closed.wait()

    assert record.error is not None
    assert (record.error.reason, record.error.retryable) == ("RESULT_TOO_LARGE", False)
    assert sum(map(len, record.partials)) <= 256 * 1024
    assert model.written_bytes < 16 << 20


async def test_a_chat_may_bring_its_messages() -> None:
    model = FakeModel()
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    async with serving(model) as endpoint:
        agent = LLMAgent("chat", model="small", endpoint=endpoint)
        await run_handler(agent, "llm.chat", {"messages": messages})

    assert model.requests[0]["messages"] == messages


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        ({}, "messages is missing"),
        ({"messages": []}, "messages is missing"),
        ({"messages": [{"role": "user"}, {"content": "x"}]}, "messages[1].role is missing"),
        ([1], "messages is missing"),
    ],
)
async def test_a_chat_without_messages_is_refused(payload: Any, told: str) -> None:
    agent = LLMAgent("chat", model="small")

    error = (await run_handler(agent, "llm.chat", payload)).error

    assert error is not None
    assert (error.reason, error.retryable) == ("INVALID_PAYLOAD", False)
    assert error.message == f"the payload does not fit: {told}"


async def test_each_type_has_its_prompt() -> None:
    model = FakeModel()
    prompts = {
        "text.summarize": "Summarize for $$1: $text",
        "text.translate": Prompt(
            "Translate: $text ($whatever)",
            system="Into $language.",
            model="large",
            max_tokens=50,
            temperature=0.0,
        ),
    }
    async with serving(model) as endpoint:
        agent = LLMAgent("writer", model="small", endpoint=endpoint, prompts=prompts)
        await run_handler(agent, "text.summarize", "a $text")
        payload = {"text": "Tag", "language": "English", "whatever": {"a": 1}}
        await run_handler(agent, "text.translate", payload, max_tokens=20)
        lacking = await run_handler(agent, "text.translate", {"text": "Tag"})

    first, second = model.requests
    assert first["messages"] == [{"role": "user", "content": "Summarize for $1: a $text"}]
    assert "max_tokens" not in first
    assert second["messages"] == [
        {"role": "system", "content": "Into English."},
        {"role": "user", "content": 'Translate: Tag ({"a":1})'},
    ]
    assert (second["model"], second["max_tokens"], second["temperature"]) == ("large", 20, 0.0)
    assert lacking.error is not None
    assert lacking.error.message == "the payload does not fit: language is missing"


@pytest.mark.parametrize("answer", ['{"mood": "good"}', '```json\n{"mood": "good"}\n```'])
async def test_a_prompt_for_json_returns_data(answer: str) -> None:
    model = FakeModel()
    model.behave = saying(answer)
    async with serving(model) as endpoint:
        prompts = {"text.mood": Prompt("$text", json=True)}
        agent = LLMAgent("moods", model="small", endpoint=endpoint, prompts=prompts)
        record = await run_handler(agent, "text.mood", "hooray")

    assert record.value() == {"mood": "good"}
    assert model.requests[0]["response_format"] == {"type": "json_object"}


async def test_an_answer_that_is_not_json_may_be_tried_again() -> None:
    model = FakeModel()
    model.behave = saying("I feel good")
    async with serving(model) as endpoint:
        prompts = {"text.mood": Prompt("$text", json=True)}
        agent = LLMAgent("moods", model="small", endpoint=endpoint, prompts=prompts)
        record = await run_handler(agent, "text.mood", "hooray")

    assert record.error is not None
    assert (record.error.reason, record.error.retryable) == ("INVALID_RESULT", True)
    # What was asked and answered was paid for all the same.
    assert record.usage.output_tokens == 3


async def test_cancelling_closes_the_request() -> None:
    model = FakeModel()
    model.behave = fake.hanging
    async with serving(model) as endpoint:
        agent = LLMAgent("chat", model="small", endpoint=endpoint)
        async with start_handler(agent, "llm.chat", "hi") as run:
            while not run.record.partials:
                await run.changed()
            run.cancel()
            record = await run.wait()
            await asyncio.wait_for(model.closed.wait(), 5)

    assert record.canceled
    assert record.partials == ["Hel"]


async def test_a_limit_makes_the_agent_pause() -> None:
    model = FakeModel()
    model.behave = fake.refusing(429, {"error": {"message": "slow"}}, **{"Retry-After": "0.3"})
    async with serving(model) as endpoint:
        agent = LLMAgent("chat", model="small", endpoint=endpoint)
        record = await run_handler(agent, "llm.chat", "hi")
        refused_s = time.monotonic()
        model.behave = saying("now")
        again = await run_handler(agent, "llm.chat", "hi")
        answered_s = time.monotonic()

    assert record.error is not None
    assert (record.error.reason, record.error.retryable) == ("LLM_RATE_LIMITED", True)
    assert again.value() == "now"
    # It was held back here until the endpoint takes requests again.
    assert answered_s - refused_s >= 0.25


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (401, {"message": "bad key"}, "LLM_UNAUTHORIZED"),
        (429, {"code": "insufficient_quota"}, "LLM_QUOTA_SPENT"),
    ],
)
async def test_a_refused_account_makes_the_agent_pause_and_lets_others_do_the_task(
    status: int, error: dict[str, str], reason: str
) -> None:
    model = FakeModel()
    model.behave = fake.refusing(status, {"error": error})
    async with serving(model, account_pause_s=0.3) as endpoint:
        agent = LLMAgent("chat", model="small", endpoint=endpoint)
        record = await run_handler(agent, "llm.chat", "hi")
        refused_s = time.monotonic()
        model.behave = saying("now")
        await run_handler(agent, "llm.chat", "hi")

    assert record.error is not None
    assert (record.error.reason, record.error.retryable) == (reason, True)
    assert time.monotonic() - refused_s >= 0.25


async def test_an_answer_that_is_cut_says_so() -> None:
    model = FakeModel()
    model.behave = sending(chunk("Hel", finish="length"), DONE)
    async with serving(model) as endpoint:
        record = await run_handler(
            LLMAgent("chat", model="small", endpoint=endpoint), "llm.chat", "hi"
        )

    assert record.value() == "Hel"
    assert record.progress == [(1.0, CUT_MESSAGE)]


def test_the_environment_says_where_and_what(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "OPENAI_BASE_URL": "http://models/v1",
        "OPENAI_API_KEY": "k",
        "PODIUM_LLM_MODEL": "tiny",
        "PODIUM_LLM_INPUT_PRICE": "0.1",
        "PODIUM_LLM_OUTPUT_PRICE": "0.3",
    }.items():
        monkeypatch.setenv(name, value)

    agent = LLMAgent("chat", agent_id="chat")

    assert (agent.endpoint.base_url, agent.endpoint.api_key) == ("http://models/v1", "k")
    assert (agent.model, agent.input_price, agent.output_price) == ("tiny", 0.1, 0.3)
    assert agent.identity.cost_per_kilotoken == 0.3


def test_what_is_missing_or_wrong_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PODIUM_LLM_MODEL", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ValueError, match="set PODIUM_LLM_MODEL"):
        LLMAgent("chat")
    assert LLMAgent("chat", model="m").endpoint.base_url == BASE_URL
    monkeypatch.setenv("PODIUM_LLM_INPUT_PRICE", "cheap")
    with pytest.raises(ValueError, match="PODIUM_LLM_INPUT_PRICE is not a number: 'cheap'"):
        LLMAgent("chat", model="m")
