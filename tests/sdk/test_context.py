from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from podium.sdk.agent import Agent
from podium.sdk.context import CHECKPOINT_BYTES_MAX, Context
from podium.sdk.errors import TaskFailed
from podium.sdk.testing import run_handler


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


async def test_a_question_tells_what_was_used_before_it() -> None:
    host = agent()

    @host.handles("ask")
    async def ask(payload: str, task: Context) -> Any:
        task.usage(input_tokens=5, cost=0.25)
        return task.need_input("which?")

    record = await run_handler(host, "ask")

    assert record.question == "which?"
    assert (record.usage.input_tokens, record.usage.cost) == (5, 0.25)
