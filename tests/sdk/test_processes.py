from __future__ import annotations

import asyncio
import multiprocessing.context
import os
import signal
from typing import Any

import pytest

from podium.sdk import processes
from podium.sdk.conversation import Outgoing
from podium.sdk.runner import Runner
from podium.sdk.settings import Settings
from podium.sdk.testing import run_handler, start_handler
from podium.sdk.tracing import Tracer
from podium.v1 import session_pb2
from tests.sdk.fakes import spec
from tests.sdk.pooled import agent
from tests.support.waiting import eventually


class Bench:
    """A runner of its own, so that several tasks meet the same processes."""

    def __init__(self) -> None:
        self.said: list[Outgoing] = []
        tracer = Tracer("agent", Settings(otlp_endpoint="off"))
        self.runner = Runner([agent], self.said.extend, tracer)

    def assign(self, task_id: str, task_type: str, data: bytes = b"") -> None:
        given = spec(task_type, data)
        given.payload.content_type = "application/json"
        assign = session_pb2.Assign(task_id=task_id, lease_epoch=1, attempt=1, spec=given)
        self.runner.take([session_pb2.RouterFrame(agent_id="a1", assign=assign)])

    async def results(self, count: int) -> list[session_pb2.Result]:
        def ended() -> list[session_pb2.Result]:
            return [frame.result for kind, _, frame in self.said if kind == "result"]

        await eventually(lambda: len(ended()) == count, within_s=30)
        return ended()


async def test_a_handler_runs_in_another_process_with_all_that_it_says() -> None:
    record = await run_handler(agent, "report", attempt=2, checkpoint={"at": 0})

    assert record.result == "task-under-test 2 {'at': 0}"
    assert record.progress == [(0.5, "half way")]
    assert record.checkpoints == [b'{"at":1}']
    assert (record.usage.input_tokens, record.confidence) == (7, 0.75)
    assert record.spans == ["inside", "execute"]


@pytest.mark.parametrize(
    ("task_type", "payload", "error"),
    [
        ("refuse", "", ("NOT_MINE", "never", False)),
        (
            "square",
            "two",
            ("INVALID_PAYLOAD", "the payload is not an integer", False),
        ),
        (
            "crash",
            "exit",
            (
                "AGENT_WORKER_CRASHED",
                "the process of the handler ended with exit code 3",
                True,
            ),
        ),
        (
            "crash",
            "kill",
            (
                "AGENT_WORKER_CRASHED",
                "the process of the handler was ended by signal 9",
                True,
            ),
        ),
        (
            "child",
            "",
            (
                "HANDLER_ERROR",
                "A handler in a process of its own cannot submit tasks: let it return what is"
                " needed to an async handler that can.",
                True,
            ),
        ),
    ],
)
async def test_how_an_attempt_fails_in_another_process_is_told(
    task_type: str, payload: Any, error: tuple[str, str, bool]
) -> None:
    record = await run_handler(agent, task_type, payload)

    assert record.error is not None
    assert (record.error.reason, record.error.message, record.error.retryable) == error


async def test_pieces_and_questions_come_through() -> None:
    assert (await run_handler(agent, "stream")).result == "ab"
    assert (await run_handler(agent, "ask")).question == "which?"
    assert (await run_handler(agent, "ask", answer="that")).result == "told that"


async def test_processes_are_used_again_and_one_that_crashed_is_replaced() -> None:
    bench = Bench()
    try:
        for number in range(6):
            bench.assign(f"t{number}", "square", b"3")
        first = await bench.results(6)
        pids = {eval(result.success.data)["pid"] for result in first}
        bench.assign("bad", "crash", b'"exit"')
        await bench.results(7)
        for number in range(6):
            bench.assign(f"u{number}", "square", b"4")
        later = (await bench.results(13))[7:]
    finally:
        await bench.runner.stop()

    assert len(pids) <= 2
    assert os.getpid() not in pids
    assert [eval(result.success.data)["square"] for result in later] == [16] * 6


async def test_signals_for_the_group_cost_no_attempt_neither_at_work_nor_while_it_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[int] = []
    start = multiprocessing.context.SpawnProcess.start

    def signalled(process: multiprocessing.context.SpawnProcess) -> None:
        start(process)
        assert process.pid is not None
        started.append(process.pid)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(process.pid, number)

    monkeypatch.setattr(multiprocessing.context.SpawnProcess, "start", signalled)
    async with start_handler(agent, "obey") as run:
        while not run.record.progress:
            await run.changed()
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(started[0], number)
        run.cancel()
        record = await run.wait()

    assert record.canceled
    assert record.error is None


async def test_a_handler_that_looks_stops_when_it_is_cancelled() -> None:
    async with start_handler(agent, "obey") as run:
        while not run.record.progress:
            await run.changed()
        run.cancel()
        record = await run.wait()

    assert record.canceled


async def test_a_handler_that_does_not_look_is_ended_with_its_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "STOP_S_MAX", 0.05)
    async with start_handler(agent, "ignore") as run:
        while not run.record.progress:
            await run.changed()
        run.cancel()
        record = await run.wait()

    assert record.canceled


async def test_a_task_that_waits_for_a_process_is_cancelled_without_one() -> None:
    bench = Bench()
    try:
        for name in ("t1", "t2", "t3"):
            bench.assign(name, "obey")
        await eventually(
            lambda: [kind for kind, _, _ in bench.said].count("progress") == 2, within_s=30
        )
        started = {key[0] for kind, key, _ in bench.said if kind == "progress"}
        (waiting,) = {"t1", "t2", "t3"} - started
        lease = session_pb2.LeaseRef(task_id=waiting, lease_epoch=1)
        cancel = session_pb2.Cancel(lease=lease, reason="CANCELED")
        bench.runner.take([session_pb2.RouterFrame(agent_id="a1", cancel=cancel)])
        (result,) = await bench.results(1)
        assert result.lease == lease
        assert result.HasField("canceled")
    finally:
        await bench.runner.stop()


async def test_stopping_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[processes.Process] = []
    start = processes.Process.__init__

    def noted(process: processes.Process) -> None:
        start(process)
        started.append(process)

    monkeypatch.setattr(processes.Process, "__init__", noted)
    bench = Bench()
    bench.assign("t1", "square", b"3")
    await bench.results(1)
    await bench.runner.stop()
    await asyncio.sleep(0)

    assert [process.exit_code for process in started] == [0]
