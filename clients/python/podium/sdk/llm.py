r"""Agents that answer by a language model, at any OpenAI-compatible endpoint.

::

    agent = LLMAgent(
        "writer",
        prompts={"text.summarize": "Summarize in one sentence:\n\n$text"},
    )
    agent.main()

The endpoint and the model come from OPENAI_BASE_URL, OPENAI_API_KEY and PODIUM_LLM_MODEL. Needs
aiohttp, which the extra `llm` of the package brings.
"""

from __future__ import annotations

import os
import string
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from podium.sdk import payloads
from podium.sdk.agent import Agent
from podium.sdk.completions import Cut, Delta, Endpoint, Unavailable
from podium.sdk.context import Context
from podium.sdk.errors import Final, Retryable
from podium.sdk.handlers import Handler
from podium.sdk.pace import Pace
from podium.sdk.partials import Return

BASE_URL = "https://api.openai.com/v1"
CHAT_TYPE = "llm.chat"
TOO_LARGE_MESSAGE = f"the model's answer has more than {payloads.PAYLOAD_BYTES_MAX} bytes"
CUT_MESSAGE = "the answer is cut: the model reached its limit of tokens"

Messages = list[dict[str, Any]]


@dataclass(frozen=True)
class Prompt:
    """What a type of task asks the model.

    Args:
        template: the user's message. ``$text`` is a text payload, ``$name`` a field of a JSON
            object, ``$payload`` the whole payload, ``$$`` a dollar sign.
        system: the system message, a template too; "" = none.
        model: instead of the agent's.
        max_tokens: of the answer; 0 = the endpoint's own limit.
        temperature: 0 to 2; None = the endpoint's own.
        json: ask for a JSON object, and return it as data instead of as text.
    """

    template: str
    system: str = ""
    model: str = ""
    max_tokens: int = 0
    temperature: float | None = None
    json: bool = False

    def messages(self, payload: Any) -> Messages:
        """Returns the messages for a payload.

        Raises:
            TaskError: INVALID_PAYLOAD, it lacks a field that the template names.
        """
        values = payload if isinstance(payload, dict) else {"text": payload}
        words = {name: _text(value) for name, value in values.items()}
        words.setdefault("payload", _text(payload))
        messages = [{"role": "system", "content": _filled(self.system, words)}]
        messages.append({"role": "user", "content": _filled(self.template, words)})
        return messages if self.system else messages[1:]


class LLMAgent(Agent):
    """An agent whose handlers ask a language model.

    The pieces of an answer are the task's partial results, the whole is its result; the tokens that
    the endpoint counts, and what they cost, are its usage. When the endpoint asks for a pause
    (429), the attempt fails as retryable and the agent takes nothing until the pause is over.

    Args:
        name: as `Agent`.
        prompts: what to ask, by task type; a plain string is a `Prompt` with that template.
        chat: whether it also takes `llm.chat`, whose payload is a text, or an object with
            `messages` as the API defines them. Default: when it has no prompts.
        model: the model. Default: PODIUM_LLM_MODEL.
        endpoint: where it is. Default: OPENAI_BASE_URL with OPENAI_API_KEY.
        input_price: money for 1,000 tokens read. Default: PODIUM_LLM_INPUT_PRICE, or 0.
        output_price: money for 1,000 tokens written. Default: PODIUM_LLM_OUTPUT_PRICE, or 0.
        rate_per_s: requests a second at most; 0 = no limit.
        burst: requests that may come at once after a quiet time.
        capacity: requests at once.
        **agent: as `Agent`.

    Raises:
        ValueError: no model is named, or a price is no number.
    """

    def __init__(
        self,
        name: str,
        *,
        prompts: Mapping[str, Prompt | str] | None = None,
        chat: bool | None = None,
        model: str = "",
        endpoint: Endpoint | None = None,
        input_price: float | None = None,
        output_price: float | None = None,
        rate_per_s: float = 0.0,
        burst: int = 1,
        capacity: int = 4,
        **agent: Any,
    ) -> None:
        self.model = model or os.environ.get("PODIUM_LLM_MODEL", "")
        if not self.model:
            raise ValueError("which model? Give model, or set PODIUM_LLM_MODEL")
        self.endpoint = endpoint or Endpoint(
            os.environ.get("OPENAI_BASE_URL") or BASE_URL, os.environ.get("OPENAI_API_KEY", "")
        )
        self.input_price = _price(input_price, "PODIUM_LLM_INPUT_PRICE")
        self.output_price = _price(output_price, "PODIUM_LLM_OUTPUT_PRICE")
        # Routing compares agents by one price; most of an answer's price is what is written.
        agent.setdefault("cost_per_kilotoken", max(self.input_price, self.output_price))
        super().__init__(name, capacity=capacity, **agent)
        self._session: aiohttp.ClientSession | None = None
        # One for all handlers, since they share the endpoint.
        self._pace = Pace(rate_per_s, burst) if rate_per_s else Pace(1e9)
        self.lifespan(self._connected)
        if chat or (chat is None and not prompts):
            self._answer(CHAT_TYPE, Prompt("$payload"), chat_messages)
        for task_type, prompt in (prompts or {}).items():
            asked = Prompt(prompt) if isinstance(prompt, str) else prompt
            self._answer(task_type, asked, asked.messages)

    async def _connected(self) -> AsyncIterator[None]:
        async with self.endpoint.open() as self._session:
            yield

    def _answer(self, task_type: str, prompt: Prompt, messages: Callable[[Any], Messages]) -> None:
        async def answer(payload: Any, task: Context) -> AsyncIterator[Any]:
            pieces: list[str] = []
            size = 0
            request = self._request(prompt, messages(payload), task)
            async with aclosing(self._asked(request, task)) as asked:
                async for piece in asked:
                    pieces.append(piece)
                    size += len(piece.encode())
                    if size > payloads.PAYLOAD_BYTES_MAX:
                        # No result can be so large, and a model that loops has no end.
                        raise Final(TOO_LARGE_MESSAGE, reason="RESULT_TOO_LARGE")
                    yield piece
            whole = "".join(pieces)
            yield Return(_parsed(whole) if prompt.json else whole)

        self.declare(task_type, Handler.of(answer, pace=self._pace))

    def _request(self, prompt: Prompt, messages: Messages, task: Context) -> dict[str, Any]:
        request: dict[str, Any] = {"model": prompt.model or self.model, "messages": messages}
        budget = task.spec.budget.max_tokens
        limits = [limit for limit in (prompt.max_tokens, budget) if limit]
        if limits:
            request["max_tokens"] = min(limits)
        if prompt.temperature is not None:
            request["temperature"] = prompt.temperature
        if prompt.json:
            request["response_format"] = {"type": "json_object"}
        return request

    async def _asked(self, request: dict[str, Any], task: Context) -> AsyncGenerator[str, None]:
        assert self._session is not None, "handlers run while the agent is open"
        try:
            parts = self.endpoint.complete(self._session, request)
            async with aclosing(parts):
                async for part in parts:
                    if isinstance(part, Delta):
                        yield part.text
                        continue
                    if isinstance(part, Cut):
                        task.progress(1.0, CUT_MESSAGE)
                        continue
                    cost = part.input * self.input_price + part.output * self.output_price
                    task.usage(input_tokens=part.input, output_tokens=part.output, cost=cost / 1000)
        except Unavailable as error:
            self._pace.pause(time.monotonic() + error.retry_after_s)
            raise


def chat_messages(payload: Any) -> Messages:
    """Returns the messages of a chat task: those that it brings, or its text as the user's.

    Raises:
        TaskError: INVALID_PAYLOAD.
    """
    if isinstance(payload, str):
        return [{"role": "user", "content": payload}]
    messages = payload.get("messages") if isinstance(payload, dict) else None
    if not isinstance(messages, list) or not messages:
        raise payloads.invalid("the payload does not fit: messages is missing")
    for at, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise payloads.invalid(f"the payload does not fit: messages[{at}].role is missing")
    return messages


def _filled(template: str, words: Mapping[str, str]) -> str:
    try:
        return string.Template(template).substitute(words)
    except KeyError as error:
        raise payloads.invalid(f"the payload does not fit: {error.args[0]} is missing") from None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return orjson.dumps(value).decode()


def _parsed(text: str) -> Any:
    # Models like to wrap JSON in a fence of Markdown.
    bare = text.strip().removeprefix("```json").removeprefix("```").removesuffix("```")
    try:
        return orjson.loads(bare)
    except orjson.JSONDecodeError:
        raise Retryable("the model's answer is not JSON", reason="INVALID_RESULT") from None


def _price(given: float | None, variable: str) -> float:
    if given is not None:
        return given
    text = os.environ.get(variable, "0")
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{variable} is not a number: {text!r}") from None
