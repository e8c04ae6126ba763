from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest

from podium.sdk import payloads
from podium.sdk.agent import Agent
from podium.sdk.context import CHECKPOINT_BYTES_MAX, Context
from podium.sdk.errors import TaskFailed
from podium.sdk.testing import Suite, run_handler


@dataclass
class Place:
    page: int


def agent() -> Agent:
    return Agent("worker", agent_id="a1")


@pytest.mark.parametrize(
    ("saved", "kind", "found"),
    [
        (None, None, None),
        ({"page": 3}, None, {"page": 3}),
        (Place(3), Place, Place(3)),
        (b"\x00\x01", bytes, b"\x00\x01"),
        ("page 3", str, "page 3"),
        ("page 3", None, "page 3"),
        (b"\xff\x01", None, b"\xff\x01"),
        ("3", str, "3"),
    ],
)
async def test_an_attempt_continues_from_what_the_last_one_saved(
    saved: Any, kind: Any, found: Any
) -> None:
    host = agent()
    seen = []

    @host.handles("read")
    async def read(payload: str, task: Context) -> None:
        seen.append(task.resume_from(kind))

    await run_handler(host, "read", attempt=2, checkpoint=saved)

    assert seen == [found]


async def test_a_checkpoint_of_another_kind_fails_the_attempt_and_names_the_field() -> None:
    host = agent()

    @host.handles("read")
    async def read(payload: str, task: Context) -> None:
        task.resume_from(Place)

    record = await run_handler(host, "read", checkpoint={"page": "three"})

    assert record.error is not None
    assert (record.error.reason, record.error.retryable) == ("CHECKPOINT_INVALID", True)
    assert record.error.message == "the checkpoint does not fit: page is not an integer"


async def test_a_checkpoint_that_is_too_large_is_refused() -> None:
    host = agent()

    @host.handles("read")
    async def read(payload: str, task: Context) -> None:
        task.checkpoint(bytes(CHECKPOINT_BYTES_MAX + 1))

    record = await run_handler(host, "read")

    assert record.error is not None
    assert record.error.message == "a checkpoint has at most 65536 bytes"


@pytest.mark.parametrize("nothing", [None, "", b""])
@pytest.mark.parametrize("kind", [None, str, bytes, Place])
async def test_a_checkpoint_can_be_cleared(nothing: Any, kind: Any) -> None:
    host = agent()
    seen = []

    @host.handles("read")
    async def read(payload: str, task: Context) -> None:
        seen.append((task.resume_from(kind), task.last_checkpoint))
        if task.attempt == 1:
            task.checkpoint({"page": 3})
            task.checkpoint(nothing)
            raise RuntimeError("something broke")

    async with Suite(host) as suite:
        await (await suite.submit("read")).result()

    assert seen == [(None, b"")] * 2
    assert (await run_handler(host, "read")).checkpoints == [b'{"page":3}', b""]


async def test_text_and_bytes_of_any_size_are_reported_in_pieces_that_the_router_takes() -> None:
    host = agent()
    text = "x" + "\u00e4\U0001f600" * 100_000
    data = bytes(600_000)

    @host.handles("read")
    async def read(payload: str, task: Context) -> None:
        task.partial(text)
        task.progress(0.5, "half way", partial=data)

    record = await run_handler(host, "read")

    pieces = [piece for piece in record.partials if isinstance(piece, str)]
    assert "".join(pieces) == text
    assert b"".join(piece for piece in record.partials if isinstance(piece, bytes)) == data
    assert all(len(payloads.encode(piece).data) <= 262_144 for piece in record.partials)
    assert record.progress == [(0.5, "half way")]


@pytest.mark.parametrize("way", ["partial", "progress"])
async def test_a_piece_that_cannot_be_split_is_refused(way: str) -> None:
    host = agent()

    @host.handles("read")
    async def read(payload: str, task: Context) -> None:
        piece = {"text": "x" * 262_144}
        if way == "partial":
            task.partial(piece)
        else:
            task.progress(0.5, partial=piece)

    record = await run_handler(host, "read")

    assert record.error is not None
    assert record.error.message == "a piece of a result has at most 262144 bytes, not 262155"
    assert (record.partials, record.progress) == ([], [])


async def test_an_answer_is_given_once_so_a_second_call_asks_again() -> None:
    host = agent()

    @host.handles("ask")
    async def ask(payload: str, task: Context) -> list[Any]:
        return [task.need_input("first?"), task.need_input("second?")]

    assert (await run_handler(host, "ask")).question == "first?"
    assert (await run_handler(host, "ask", answer="one")).question == "second?"


async def test_a_child_belongs_to_its_task() -> None:
    host = agent()

    @host.handles("parent")
    async def parent(payload: str, task: Context) -> Any:
        child = await task.submit("text.count", {"text": payload}, priority=8)
        return await child.result()

    record = await run_handler(
        host,
        "parent",
        "four",
        tenant="acme",
        children={"text.count": lambda payload: len(payload["text"])},
    )

    assert record.result == 4
    (child,) = record.children
    assert (child.spec.parent_task_id, child.spec.tenant) == ("task-under-test", "acme")
    assert (child.spec.priority, child.payload) == (8, {"text": "four"})


async def test_a_child_with_a_name_is_the_same_in_every_attempt() -> None:
    host = agent()

    @host.handles("parent")
    async def parent(payload: str, task: Context) -> list[str]:
        names = ["a", "b", "a"]
        return [(await task.submit("count", once=name)).task_id for name in names]

    first = await run_handler(host, "parent")
    again = await run_handler(host, "parent", attempt=2)

    assert first.result[0] == first.result[2] != first.result[1]
    keys = [[child.spec.request_id for child in run.children] for run in (first, again)]
    assert keys[0] == keys[1]
    assert all(len(key) <= 64 for key in keys[0])


async def test_a_handler_in_a_thread_waits_for_its_child() -> None:
    host = agent()

    @host.handles("parent")
    def parent(payload: str, task: Context) -> Any:
        child = task.wait_for(task.submit("count", payload))
        return task.wait_for(child.result())

    record = await run_handler(host, "parent", "x", children={"count": 1})

    assert record.result == 1


async def test_a_failed_child_fails_the_attempt_that_waits_for_it() -> None:
    host = agent()

    @host.handles("parent")
    async def parent(payload: str, task: Context) -> Any:
        return await (await task.submit("count", payload)).result()

    record = await run_handler(
        host, "parent", "x", children={"count": TaskFailed("c1", "NO_DATA", "nothing there")}
    )

    assert record.error is not None
    assert record.error.message == "task c1: NO_DATA: nothing there"


async def test_usage_adds_up() -> None:
    host = agent()

    @host.handles("spend")
    async def spend(payload: str, task: Context) -> None:
        task.usage(input_tokens=5, cost=0.25)
        task.usage(output_tokens=3, cost=0.5)

    usage = (await run_handler(host, "spend")).usage

    assert (usage.input_tokens, usage.output_tokens, usage.cost) == (5, 3, 0.75)


@pytest.mark.parametrize(
    ("spent", "message"),
    [
        ({"input_tokens": -1}, "input_tokens is a whole number from 0 up, not -1"),
        ({"output_tokens": 1.5}, "output_tokens is a whole number from 0 up, not 1.5"),
        (
            {"input_tokens": 10**12},
            "input_tokens come to 1000000000005, more than can be counted",
        ),
        ({"cost": 1e12}, "cost comes to 1000000000000.25, more than can be counted"),
        ({"cost": math.nan}, "cost is a number from 0 up, not nan"),
        ({"cost": math.inf}, "cost is a number from 0 up, not inf"),
        ({"cost": "1.5"}, "cost is a number from 0 up, not '1.5'"),
    ],
)
async def test_usage_that_is_none_is_refused_and_what_was_used_before_counts(
    spent: dict[str, Any], message: str
) -> None:
    host = agent()

    @host.handles("spend")
    async def spend(payload: str, task: Context) -> None:
        task.usage(input_tokens=5, cost=0.25)
        task.usage(**spent)

    record = await run_handler(host, "spend")

    assert record.error is not None
    assert record.error.message == message
    assert (record.usage.input_tokens, record.usage.cost) == (5, 0.25)


@pytest.mark.parametrize("share", ["high", math.nan, 1.01, -0.1])
async def test_a_confidence_that_is_none_is_refused_where_it_is_set(share: Any) -> None:
    host = agent()

    @host.handles("guess")
    async def guess(payload: str, task: Context) -> None:
        task.confidence = share

    record = await run_handler(host, "guess", timeout_s=5)

    assert record.error is not None
    assert record.error.message == f"confidence is a number from 0 to 1, not {share!r}"


async def test_confidence_goes_with_the_result_and_can_be_taken_back() -> None:
    host = agent()

    @host.handles("guess")
    async def guess(payload: str, task: Context) -> None:
        task.confidence = 1
        if payload == "unsure":
            task.confidence = None

    assert (await run_handler(host, "guess", "sure")).confidence == 1.0
    assert (await run_handler(host, "guess", "unsure")).confidence is None


async def test_a_message_of_progress_is_told_whatever_is_in_it() -> None:
    host = agent()

    @host.handles("read")
    async def read(payload: str, task: Context) -> None:
        task.progress(0.5, "bad name: \udc80")

    assert (await run_handler(host, "read")).progress == [(0.5, "bad name: \\udc80")]


async def test_a_question_tells_what_was_used_before_it() -> None:
    host = agent()

    @host.handles("ask")
    async def ask(payload: str, task: Context) -> Any:
        task.usage(input_tokens=5, cost=0.25)
        return task.need_input("which?")

    record = await run_handler(host, "ask")

    assert record.question == "which?"
    assert (record.usage.input_tokens, record.usage.cost) == (5, 0.25)
