from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from podium.sdk import attempts
from podium.sdk.agent import Agent
from podium.sdk.context import Context
from podium.sdk.errors import Final
from podium.sdk.testing import run_handler
from tests.sdk.pooled import agent as pooled


def agent() -> Agent:
    return Agent("worker", agent_id="a1")


def raises(error: BaseException) -> Callable[[str], None]:
    def work(payload: str) -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (StopIteration(), "see the log of the agent"),
        (StopIteration("no more"), "no more"),
        (SystemExit(3), "the handler asked its program to exit: 3"),
        (KeyboardInterrupt(), "see the log of the agent"),
        (GeneratorExit(), "see the log of the agent"),
    ],
)
async def test_what_would_end_a_loop_or_a_program_ends_an_attempt(
    error: BaseException, message: str
) -> None:
    host = agent()
    host.handles("work")(raises(error))

    record = await run_handler(host, "work", timeout_s=5)

    assert record.error is not None
    assert (record.error.reason, record.error.message) == ("HANDLER_ERROR", message)
    assert record.error.retryable


async def test_an_async_handler_that_exits_ends_its_attempt_and_not_the_host() -> None:
    host = agent()

    @host.handles("exit")
    async def leave(payload: str) -> None:
        sys.exit(3)

    record = await run_handler(host, "exit", timeout_s=5)

    assert record.error is not None
    assert record.error.message == "the handler asked its program to exit: 3"


async def test_a_generator_that_exits_ends_its_attempt() -> None:
    host = agent()

    @host.handles("exit")
    def leave(payload: str) -> Iterator[str]:
        yield "piece"
        sys.exit("usage: none")

    record = await run_handler(host, "exit", timeout_s=5)

    assert record.error is not None
    assert record.error.message == "the handler asked its program to exit: usage: none"


@pytest.mark.parametrize("kind", [RuntimeError, Final])
async def test_a_message_that_no_text_can_hold_is_told_all_the_same(kind: type[Exception]) -> None:
    host = agent()
    host.handles("work")(raises(kind("bad file name: \udc80")))

    record = await run_handler(host, "work", timeout_s=5)

    assert record.error is not None
    assert record.error.message == "bad file name: \\udc80"


async def test_a_process_tells_such_a_message_and_lives() -> None:
    record = await run_handler(pooled, "mangle")

    assert record.error is not None
    assert (record.error.reason, record.error.message) == ("HANDLER_ERROR", "bad name: \\udc80")


async def test_an_error_that_cannot_be_shown_fails_its_attempt() -> None:
    class Shy(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not to be shown")

    host = agent()
    host.handles("work")(raises(Shy()))

    record = await run_handler(host, "work", timeout_s=5)

    assert record.error is not None
    assert record.error.message == "see the log of the agent"


async def test_a_message_is_cut_to_what_the_wire_takes() -> None:
    host = agent()
    host.handles("work")(raises(RuntimeError("\udc80" * 5_000)))

    record = await run_handler(host, "work")

    assert record.error is not None
    assert len(record.error.message) == attempts.FAILURE_LEN_MAX


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1j, "the result is nothing that JSON can hold; see the log of the agent"),
        ("bad name: \udc80", "the result is no valid text; see the log of the agent"),
    ],
)
async def test_a_result_that_cannot_be_sent_fails_the_task(value: Any, message: str) -> None:
    host = agent()

    @host.handles("work")
    async def work(payload: str) -> object:
        return value

    record = await run_handler(host, "work")

    assert record.error is not None
    assert (record.error.reason, record.error.message) == ("INVALID_RESULT", message)
    assert not record.error.retryable


async def test_a_result_that_cannot_be_told_is_a_failure_and_never_silence() -> None:
    host = agent()

    @host.handles("work")
    async def work(payload: str, task: Context) -> str:
        odd: Any = 5
        task.traceparent = odd
        return "done"

    record = await run_handler(host, "work", timeout_s=5)

    assert record.error is not None
    assert (record.error.reason, record.error.retryable) == ("HANDLER_ERROR", True)
    assert record.error.message == "how the attempt ended cannot be told; see the log of the agent"
