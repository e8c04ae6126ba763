"""The example's agent answers by a real endpoint on loopback, named by the environment alone."""

from __future__ import annotations

import pytest

from examples.llm_agent import __main__ as program
from examples.llm_agent.agent import make
from podium.sdk.testing import run_handler
from tests.sdk.endpoint import FakeModel, saying, serving


async def test_it_answers_every_kind_of_task_it_offers(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FakeModel()
    async with serving(model) as endpoint:
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.base_url)
        monkeypatch.setenv("PODIUM_LLM_MODEL", "small")
        agent = make()
        chat = await run_handler(agent, "llm.chat", "hi")
        summary = await run_handler(agent, "text.summarize", "long")
        payload = {"text": "Tag", "language": "English"}
        translation = await run_handler(agent, "text.translate", payload)
        model.behave = saying('{"label": "good"}')
        payload = {"text": "hooray", "labels": ["good", "bad"]}
        label = await run_handler(agent, "text.classify", payload)

    assert chat.value() == summary.value() == translation.value() == "Hello world"
    assert label.value() == {"label": "good"}
    asked = [request["messages"] for request in model.requests]
    assert asked[0] == [{"role": "user", "content": "hi"}]
    assert "into English" in asked[2][0]["content"]
    assert '["good","bad"]' in asked[3][0]["content"]


def test_without_a_model_it_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PODIUM_LLM_MODEL", raising=False)

    assert program.main() == 2
    assert "set PODIUM_LLM_MODEL" in capsys.readouterr().err
