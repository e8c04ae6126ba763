from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from podium.sdk.agent import Agent
from podium.sdk.context import Context
from podium.sdk.partials import INTERVAL_S, Return
from podium.sdk.testing import run_handler, start_handler


def agent() -> Agent:
    return Agent("worker", agent_id="a1")


async def test_yielded_text_is_reported_and_joined() -> None:
    host = agent()
    proceed = asyncio.Event()

    @host.handles("tell")
    async def tell(payload: str) -> AsyncIterator[str]:
        yield "once "
        await proceed.wait()
        yield "upon "
        yield "a time"

    async with start_handler(host, "tell") as run:
        while not run.record.partials:
            await run.changed()
        # The first piece does not wait for the next one.
        assert run.record.partials == ["once "]
        proceed.set()
        record = await run.wait()

    assert record.result == "once upon a time"
    assert "".join(record.partials) == "once upon a time"


async def test_pieces_that_come_fast_are_reported_together_and_none_stays_behind() -> None:
    host = agent()
    proceed = asyncio.Event()

    @host.handles("tell")
    async def tell(payload: str) -> AsyncIterator[str]:
        for number in range(1000):
            yield f"{number} "
        await proceed.wait()

    async with start_handler(host, "tell") as run:
        whole = "".join(f"{number} " for number in range(1000))
        async with asyncio.timeout(10 * INTERVAL_S + 5):
            while "".join(run.record.partials) != whole:
                await run.changed()
        assert len(run.record.partials) < 100
        proceed.set()
        assert (await run.wait()).result == whole


@pytest.mark.parametrize(
    ("pieces", "result"),
    [
        ([b"ab", b"c"], b"abc"),
        ([{"n": 1}, {"n": 2}], [{"n": 1}, {"n": 2}]),
        (["text", 1], ["text", 1]),
        ([], []),
        (["a", Return({"length": 1})], {"length": 1}),
    ],
)
async def test_the_result_is_all_pieces_or_what_is_returned(pieces: list[Any], result: Any) -> None:
    host = agent()

    @host.handles("async")
    async def eager(payload: str) -> AsyncIterator[Any]:
        for piece in pieces:
            yield piece

    @host.handles("plain")
    def plain(payload: str) -> Iterator[Any]:
        yield from pieces

    assert (await run_handler(host, "async")).result == result
    assert (await run_handler(host, "plain")).result == result


async def test_a_plain_generator_returns_its_result() -> None:
    host = agent()

    @host.handles("count")
    def count(payload: str) -> Any:
        yield "a"
        yield "b"
        return {"letters": 2}

    record = await run_handler(host, "count")

    assert record.result == {"letters": 2}
    assert "".join(record.partials) == "ab"


async def test_cancelling_closes_the_generator() -> None:
    host = agent()
    closed = []

    @host.handles("endless")
    async def endless(payload: str) -> AsyncIterator[str]:
        try:
            yield "a"
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    async with start_handler(host, "endless") as run:
        await run.changed()
        run.cancel()
        record = await run.wait()

    assert (record.canceled, closed) == (True, [True])


async def test_pieces_keep_the_fraction_that_was_reported() -> None:
    host = agent()

    @host.handles("half")
    async def half(payload: str, task: Context) -> AsyncIterator[str]:
        task.progress(0.5, "half way")
        yield "piece"
        task.checkpoint({"at": 1})

    record = await run_handler(host, "half")

    assert record.progress == [(0.5, "half way")]
    assert record.checkpoints == [b'{"at":1}']
