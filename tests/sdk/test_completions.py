from __future__ import annotations

import email.utils
import json
import time
from typing import Any

import pytest

from podium.sdk import completions
from podium.sdk.completions import Cut, Delta, Endpoint, Part, Tokens, Unavailable, wait_of
from podium.sdk.errors import TaskError
from tests.sdk import endpoint as fake
from tests.sdk.endpoint import DONE, FakeModel, chunk, sending, serving

REQUEST = {"model": "small", "messages": [{"role": "user", "content": "hi"}]}


def delta(**said: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": said}]}).encode() + b"\n\n"


async def complete(model: FakeModel, **settings: Any) -> list[Part]:
    async with serving(model, **settings) as endpoint, endpoint.open() as session:
        return [part async for part in endpoint.complete(session, REQUEST)]


async def failure(model: FakeModel, **settings: Any) -> TaskError:
    with pytest.raises(TaskError) as caught:
        await complete(model, **settings)
    return caught.value


async def test_an_answer_is_read_piece_by_piece_with_its_tokens() -> None:
    model = FakeModel()

    parts = await complete(model)

    assert parts == [Delta("Hel"), Delta("lo "), Delta("world"), Tokens(11, 3)]
    assert model.requests == [
        {**REQUEST, "stream": True, "stream_options": {"include_usage": True}}
    ]
    assert model.keys == ["Bearer secret"]


@pytest.mark.parametrize(
    "parts",
    [
        # Byte by byte, also within a character of several bytes.
        [bytes([byte]) for byte in chunk("grün") + chunk("!", finish="stop") + DONE],
        # Carriage returns, comments, fields that mean nothing here, data over two lines.
        [
            b": keep-alive\r\n\r\nevent: x\r\nid: 1\r\n",
            chunk("grün").replace(b"\n", b"\r\n"),
            b'data: {"choices": [{"delta":\n',
            b'data:  {"content": "!"}, "finish_reason": "stop"}]}\n\n',
            DONE,
        ],
        # No [DONE], and no blank line at the end.
        [chunk("grün"), chunk("!", finish="stop").rstrip()],
        # No reason for the end, as several endpoints have it where the model ends by itself.
        [chunk("grün"), chunk("!"), DONE],
        # Choices without content, such as the first that names the role.
        [
            b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n',
            *(chunk("grün"), chunk("!", finish="stop"), DONE),
        ],
    ],
)
async def test_an_event_stream_is_understood_however_it_is_cut(parts: list[bytes]) -> None:
    model = FakeModel()
    model.behave = sending(*parts)

    assert await complete(model) == [Delta("grün"), Delta("!")]


async def test_an_endpoint_that_does_not_stream_is_understood_too() -> None:
    model = FakeModel()
    model.behave = fake.refusing(
        200,
        {
            "choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 4, "completion_tokens": 1},
        },
    )

    assert await complete(model) == [Delta("Hello"), Tokens(4, 1)]


async def test_of_a_count_that_runs_along_the_last_one_is_the_whole() -> None:
    model = FakeModel()
    counts = [{"prompt_tokens": 10, "completion_tokens": number} for number in (1, 2, 3)]
    model.behave = sending(
        *(chunk(piece, usage=count) for piece, count in zip("abc", counts, strict=True)),
        chunk(finish="length"),
        DONE,
    )

    parts = await complete(model)

    assert parts == [Delta("a"), Delta("b"), Delta("c"), Tokens(10, 3), Cut()]


async def test_what_was_counted_is_told_when_the_answer_breaks_off() -> None:
    model = FakeModel()
    model.behave = sending(chunk("a", usage={"prompt_tokens": 10, "completion_tokens": 1}))
    parts: list[Part] = []
    async with serving(model) as endpoint, endpoint.open() as session:
        with pytest.raises(TaskError, match="ended in the middle"):
            async for part in endpoint.complete(session, REQUEST):
                parts.append(part)

    assert parts == [Delta("a"), Tokens(10, 1)]


@pytest.mark.parametrize(
    ("status", "body", "reason", "retryable"),
    [
        (400, {"error": {"message": "no such field"}}, "LLM_REFUSED", False),
        (401, {"error": {"message": "bad key"}}, "LLM_UNAUTHORIZED", True),
        (403, {"error": {"message": "not you"}}, "LLM_UNAUTHORIZED", True),
        (404, {"error": "no such model"}, "LLM_REFUSED", False),
        (408, "slow", "LLM_UNAVAILABLE", True),
        (413, "<html>too large</html>", "LLM_REFUSED", False),
        (429, {"error": {"message": "slow down"}}, "LLM_RATE_LIMITED", True),
        (
            429,
            {"error": {"message": "pay", "code": "insufficient_quota"}},
            "LLM_QUOTA_SPENT",
            True,
        ),
        (500, {"error": {"message": "oops"}}, "LLM_UNAVAILABLE", True),
        (502, "", "LLM_UNAVAILABLE", True),
        (503, {"error": {"message": None}}, "LLM_UNAVAILABLE", True),
    ],
)
async def test_a_refusal_says_whether_to_try_again(
    status: int, body: Any, reason: str, retryable: bool
) -> None:
    model = FakeModel()
    model.behave = fake.refusing(status, body)

    error = await failure(model)

    assert (error.reason, error.retryable) == (reason, retryable)
    assert error.message.startswith(f"the endpoint answered {status}: ")


@pytest.mark.parametrize(
    ("behave", "reason", "retryable"),
    [
        (sending(chunk("Hel")), "LLM_INTERRUPTED", True),
        (sending(chunk("Hel"), b"data: {]\n\n"), "LLM_INTERRUPTED", True),
        (sending(chunk("Hel"), b"data: 1\n\n"), "LLM_INTERRUPTED", True),
        (sending(b"x" * 2_000_000), "LLM_INTERRUPTED", True),
        *(
            (sending(b"data: " + json.dumps(event).encode() + b"\n\n"), "LLM_INTERRUPTED", True)
            for event in (
                {"choices": ["x"]},
                {"choices": {"delta": {}}},
                {"choices": [{"delta": "x"}]},
                {"choices": [{"delta": {"content": 1}}]},
                {"usage": 7},
                {"usage": {"prompt_tokens": -1}},
                {"usage": {"prompt_tokens": "many"}},
            )
        ),
        (sending(DONE), "LLM_INTERRUPTED", True),
        (sending(chunk("Hel", finish="content_filter"), DONE), "LLM_FILTERED", False),
        (sending(delta(refusal="I can"), delta(refusal="not"), DONE), "LLM_FILTERED", False),
        (sending(delta(tool_calls=[1]), DONE), "LLM_INTERRUPTED", True),
        (sending(b'data: {"error":{"message":"overloaded"}}\n\n'), "LLM_UNAVAILABLE", True),
        (sending(b'data: {"error":{"message":"no","code":400}}\n\n'), "LLM_REFUSED", False),
        (fake.breaking, "LLM_INTERRUPTED", True),
    ],
)
async def test_an_answer_that_goes_wrong_says_whether_to_try_again(
    behave: fake.Behave, reason: str, retryable: bool
) -> None:
    model = FakeModel()
    model.behave = behave

    error = await failure(model)

    assert (error.reason, error.retryable) == (reason, retryable)


@pytest.mark.parametrize(
    "parts",
    [
        # As they stream: the first piece names the tool, the others bring its arguments.
        [
            delta(content=None, tool_calls=[{"index": 0, "function": {"name": "look_up"}}]),
            delta(tool_calls=[{"index": 0, "function": {"arguments": "{}"}}]),
            chunk(finish="tool_calls"),
        ],
        # Beside words, and with a reason that does not tell.
        [
            chunk("Let me see."),
            delta(tool_calls=[{"function": {"name": "look_up"}}]),
            chunk(finish="stop"),
        ],
        [delta(function_call={"name": "look_up"}), chunk(finish="function_call")],
    ],
)
async def test_a_call_of_a_tool_is_no_answer(parts: list[bytes]) -> None:
    model = FakeModel()
    model.behave = sending(*parts, DONE)

    error = await failure(model)

    assert (error.reason, error.retryable) == ("LLM_TOOL_CALLED", False)
    assert error.message.endswith(": look_up")


async def test_silence_is_a_timeout() -> None:
    model = FakeModel()
    model.behave = fake.hanging

    error = await failure(model, idle_s=0.05)

    assert (error.reason, error.retryable) == ("LLM_TIMEOUT", True)
    assert error.message == "the endpoint was silent for 0.05 s"


async def test_comments_that_keep_the_connection_alive_are_silence() -> None:
    model = FakeModel()
    model.behave = fake.endless(b": ping\n\n", pause_s=0.01)

    error = await failure(model, idle_s=0.1)

    assert error.reason == "LLM_TIMEOUT"
    await model.closed.wait()


@pytest.mark.parametrize(
    ("part", "bound", "told"),
    [
        (b"data: " + bytes(1_000) + b"\n", "EVENT_BYTES_MAX", "an event"),
        (bytes(1_000), "EVENT_BYTES_MAX", "an event"),
        (chunk(), "STREAM_BYTES_MAX", "the answer"),
    ],
)
async def test_what_has_no_end_is_left_at_a_bound(
    part: bytes, bound: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completions, bound, 100_000)
    model = FakeModel()
    model.behave = fake.endless(part)

    error = await failure(model)

    assert (error.reason, error.retryable) == ("LLM_INTERRUPTED", True)
    assert error.message == f"{told} of the endpoint has more than 100000 bytes"
    await model.closed.wait()


@pytest.mark.parametrize(
    ("url", "reason", "retryable"),
    [
        ("http://127.0.0.1:1/v1", "LLM_UNREACHABLE", True),
        ("nowhere", "LLM_REFUSED", False),
    ],
)
async def test_an_endpoint_that_is_not_there_is_told(
    url: str, reason: str, retryable: bool
) -> None:
    endpoint = Endpoint(url)
    async with endpoint.open() as session:
        with pytest.raises(TaskError) as caught:
            async for _ in endpoint.complete(session, REQUEST):
                pass

    assert (caught.value.reason, caught.value.retryable) == (reason, retryable)


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        *(("7", 7.0), ("0.5", 0.5), ("soon", 5.0)),
        *(("inf", 3600.0), ("1e9", 3600.0), ("nan", 5.0), ("-1", 0.0)),
    ],
)
async def test_a_limit_tells_when_to_come_back(header: str, wait_s: float) -> None:
    model = FakeModel()
    model.behave = fake.refusing(429, {}, **{"Retry-After": header})

    error = await failure(model)

    assert isinstance(error, Unavailable)
    assert error.retry_after_s == wait_s


def test_retry_after_may_be_a_date() -> None:
    in_a_minute = email.utils.formatdate(time.time_ns() / 1e9 + 60, usegmt=True)

    assert 50 < wait_of(in_a_minute, 5.0) <= 60
    assert wait_of(email.utils.formatdate(0, usegmt=True), 5.0) == 0


async def test_leaving_an_answer_closes_the_connection() -> None:
    model = FakeModel()
    model.behave = fake.hanging
    async with serving(model) as endpoint, endpoint.open() as session:
        answer = endpoint.complete(session, REQUEST)
        assert await anext(answer) == Delta("Hel")
        await answer.aclose()
        await model.closed.wait()
