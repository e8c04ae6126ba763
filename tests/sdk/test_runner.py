from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from podium.sdk import pools, runner
from podium.sdk.agent import Agent
from podium.sdk.context import Context
from podium.sdk.errors import Final, Retryable
from podium.sdk.pulse import Pulse
from podium.sdk.runner import Runner
from podium.sdk.settings import Settings
from podium.sdk.testing import run_handler, start_handler
from podium.sdk.tracing import Tracer
from podium.v1 import session_pb2
from podium.v1.session_pb2 import RouterFrame
from tests.sdk.fakes import spec
from tests.support.waiting import eventually


class Bench:
    """A runner, and what it says with the time of each."""

    def __init__(self, *agents: Agent, pulse: Pulse | None = None, inline: bool = False) -> None:
        self.said: list[tuple[float, str, str]] = []
        self._changed = asyncio.Event()
        tracer = Tracer("agent", Settings(otlp_endpoint="off"))
        self.runner = Runner(agents, self._hear, tracer, pulse=pulse, inline=inline)

    def _hear(self, said: list[Any]) -> None:
        self.said += [(time.monotonic(), kind, key[0]) for kind, key, _ in said]
        self._changed.set()

    async def until(self, count: int) -> list[tuple[str, str]]:
        async with asyncio.timeout(10):
            while len(self.said) < count:
                self._changed.clear()
                await self._changed.wait()
        return [(kind, task_id) for _, kind, task_id in self.said]


def assign(task_id: str = "t1", agent_id: str = "a1") -> RouterFrame:
    given = session_pb2.Assign(task_id=task_id, lease_epoch=1, attempt=1, spec=spec())
    return RouterFrame(agent_id=agent_id, assign=given)


def held(task_id: str) -> RouterFrame:
    lease = session_pb2.LeaseRef(task_id=task_id, lease_epoch=1)
    return RouterFrame(agent_id="a1", renew_ack=session_pb2.RenewAck(held=[lease]))


def noting(plain: bool = False, rate_per_s: float | None = None) -> tuple[Agent, list[str]]:
    """Returns an agent whose tasks are noted as they begin."""
    agent = Agent("worker", agent_id="a1", capacity=4)
    begun: list[str] = []

    def work(payload: bytes, task: Context) -> None:
        begun.append(task.task_id)

    async def awaited(payload: bytes, task: Context) -> None:
        work(payload, task)

    agent.handles("work", rate_per_s=rate_per_s)(work if plain else awaited)
    return agent, begun


def cancel(task_id: str = "t1", reason: str = "CANCELED") -> RouterFrame:
    lease = session_pb2.LeaseRef(task_id=task_id, lease_epoch=1)
    return RouterFrame(agent_id="a1", cancel=session_pb2.Cancel(lease=lease, reason=reason))


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (Retryable("busy"), ("HANDLER_ERROR", "busy", True)),
        (Retryable("busy", reason="UPSTREAM_BUSY"), ("UPSTREAM_BUSY", "busy", True)),
        (Final("never"), ("HANDLER_ERROR", "never", False)),
        (RuntimeError("odd"), ("HANDLER_ERROR", "odd", True)),
        (
            asyncio.CancelledError(),
            ("HANDLER_ERROR", "something it waited for was cancelled", True),
        ),
    ],
)
async def test_what_a_handler_raises_says_whether_to_try_again(
    raised: BaseException, expected: tuple[str, str, bool]
) -> None:
    agent = Agent("worker", agent_id="a1")

    @agent.handles("work")
    async def work(payload: bytes) -> None:
        raise raised

    error = (await run_handler(agent, "work")).error

    assert error is not None
    assert (error.reason, error.message, error.retryable) == expected


def test_a_reason_that_the_wire_would_refuse_is_refused_here() -> None:
    with pytest.raises(ValueError, match="reason 'not like this'"):
        Retryable("x", reason="not like this")


@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
async def test_a_task_cancelled_together_with_its_assignment_is_answered_and_never_begins(
    plain: bool,
) -> None:
    agent, begun = noting(plain)
    bench = Bench(agent)
    bench.runner.take([assign(), cancel()])

    assert await bench.until(1) == [("result", "t1")]
    assert len(bench.runner) == 0
    await bench.runner.stop()
    assert begun == []


@pytest.mark.parametrize("inline", [False, True], ids=["apart", "inline"])
async def test_a_frame_that_fails_silences_nothing(inline: bool) -> None:
    agent, _ = noting(plain=False)
    bench = Bench(agent, inline=inline)
    stranger = assign("t2")
    stranger.agent_id = "a9"

    with pytest.raises(KeyError):
        bench.runner.take([assign("t1"), stranger])

    assert ("result", "t1") in await bench.until(1 if inline else 2)
    bench.runner.take([assign("t3")])
    assert ("result", "t3") in await bench.until(2 if inline else 4)


@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
async def test_a_task_recalled_before_its_first_step_is_never_begun(plain: bool) -> None:
    agent, begun = noting(plain)
    bench = Bench(agent)
    bench.runner.take([assign("t1"), cancel("t1", "LEASE_LOST"), assign("t2")])

    assert await bench.until(3) == [("ack", "t1"), ("ack", "t2"), ("result", "t2")]
    await bench.runner.stop()
    assert begun == ["t2"]


@pytest.mark.parametrize(("rate_per_s", "acks"), [(None, 3), (1.0, 1)])
async def test_after_a_standstill_a_task_begins_once_the_router_says_that_it_is_still_held(
    rate_per_s: float | None, acks: int
) -> None:
    agent, begun = noting(rate_per_s=rate_per_s)
    now_s = [100.0]
    bench = Bench(agent, pulse=Pulse(lambda: round(now_s[0] * 1e9)))
    now_s[0] += 2.0
    bench.runner.take([assign("t1"), assign("t2"), assign("t3")])

    heard = await bench.until(acks + 3)
    assert heard[-3:] == [("ask", "t1"), ("ask", "t2"), ("ask", "t3")]
    assert begun == []

    bench.runner.take([held("t1"), cancel("t2", "LEASE_LOST"), cancel("t3")])
    assert sorted((await bench.until(acks + 5))[acks + 3 :]) == [("result", "t1"), ("result", "t3")]
    assert begun == ["t1"]
    assert len(bench.runner) == 0
    await bench.runner.stop()


async def test_a_rate_holds_acks_back_rather_than_failing() -> None:
    agent = Agent("worker", agent_id="a1", capacity=3)

    @agent.handles("work", rate_per_s=20)
    async def work(payload: bytes) -> None:
        await asyncio.sleep(0.001)  # or its result would stand for its ack

    bench = Bench(agent)
    began_s = time.monotonic()
    bench.runner.take([assign("t1"), assign("t2"), assign("t3")])

    assert await bench.until(6) == [
        ("ack", "t1"),
        ("result", "t1"),
        ("ack", "t2"),
        ("result", "t2"),
        ("ack", "t3"),
        ("result", "t3"),
    ]
    acks_s = [at_s - began_s for at_s, kind, _ in bench.said if kind == "ack"]
    # A timer never fires early by more than the clock's step.
    assert acks_s[1] >= 0.049
    assert acks_s[2] >= 0.099
    await bench.runner.stop()


async def test_a_task_far_beyond_the_rate_goes_back_without_an_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "HOLD_S_MAX", 0.02)
    agent = Agent("worker", agent_id="a1", capacity=3)

    @agent.handles("work", rate_per_s=0.001)
    async def work(payload: bytes) -> None: ...

    bench = Bench(agent)
    bench.runner.take([assign("t1"), assign("t2")])

    assert await bench.until(3) == [("ack", "t1"), ("result", "t1"), ("nack", "t2")]
    assert len(bench.runner) == 0
    await bench.runner.stop()


async def test_a_task_that_waits_for_the_rate_can_be_cancelled() -> None:
    agent = Agent("worker", agent_id="a1", capacity=3)

    @agent.handles("work", rate_per_s=0.4)
    async def work(payload: bytes) -> None: ...

    bench = Bench(agent)
    bench.runner.take([assign("t1"), assign("t2")])
    await bench.until(2)
    bench.runner.take([cancel("t2")])

    assert await bench.until(3) == [("ack", "t1"), ("result", "t1"), ("result", "t2")]
    await bench.runner.stop()


async def test_handlers_are_replaced_while_tasks_run() -> None:
    proceed = asyncio.Event()

    def made(word: str) -> Agent:
        agent = Agent("worker", agent_id="a1", capacity=3)

        @agent.handles("work")
        async def work(payload: bytes) -> str:
            await proceed.wait()
            words.append(word)
            return word

        return agent

    words: list[str] = []
    bench = Bench(made("old"))
    bench.runner.take([assign("t1")])
    await bench.until(1)
    await bench.runner.replace(made("new"))
    bench.runner.take([assign("t2")])
    await bench.until(2)
    proceed.set()
    await bench.until(4)
    await bench.runner.stop()

    assert words == ["old", "new"]


async def test_a_handler_that_another_process_would_not_find_is_refused_at_the_start() -> None:
    agent = Agent("worker", agent_id="a1")

    def lost(payload: str) -> None: ...

    lost.__qualname__ = "not_there"
    agent.handles("work", pool="process")(lost)

    with pytest.raises(TypeError, match="another process would not find not_there in"):
        async with start_handler(agent, "work"):
            pass


class Gate:
    """Handlers that block until they are let through, and who has passed."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.opened = threading.Event()

    def pass_through(self, payload: str, task: Context) -> str:
        self.begun.append(task.task_id)
        self.opened.wait(10)
        return "through"


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.opened.set()


@pytest.mark.parametrize("reason", ["CANCELED", "LEASE_LOST"])
async def test_a_task_that_waits_for_a_thread_never_runs_once_it_is_over(
    reason: str, gate: Gate
) -> None:
    agent = Agent("worker", agent_id="a1", capacity=1)
    agent.handles("work")(gate.pass_through)
    bench = Bench(agent)
    bench.runner.take([assign("t1"), assign("t2")])
    await eventually(lambda: gate.begun)

    bench.runner.take([cancel("t2", reason)])

    # It is over at once, not when the thread is free.
    await eventually(lambda: len(bench.runner) == 1)
    told = [("result", "t2")] if reason == "CANCELED" else []
    assert await bench.until(2 + len(told)) == [("ack", "t1"), ("ack", "t2"), *told]
    gate.opened.set()
    assert (await bench.until(3 + len(told)))[-1] == ("result", "t1")
    bench.runner.take([assign("t3")])
    assert (await bench.until(5 + len(told)))[-1] == ("result", "t3")
    assert gate.begun == ["t1", "t3"]
    await bench.runner.stop()


async def test_an_agent_whose_handlers_block_does_not_hold_up_another_of_its_host(
    gate: Gate,
) -> None:
    blocked = Agent("worker", agent_id="a1", capacity=100)
    blocked.handles("work")(gate.pass_through)
    free = Agent("worker", agent_id="a2")

    @free.handles("work")
    def work(payload: str) -> str:
        return "done"

    bench = Bench(blocked, free)
    bench.runner.take([assign(f"t{number}") for number in range(100)])
    await eventually(lambda: len(gate.begun) == pools.THREADS_MAX)
    bench.runner.take([assign("other", "a2")])

    assert (await bench.until(102))[-1] == ("result", "other")
    gate.opened.set()
    await bench.until(202)
    await bench.runner.stop()


async def test_stopping_leaves_behind_what_does_not_stop(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    agent = Agent("worker", agent_id="a1", capacity=2)
    agent.handles("block")(gate.pass_through)
    proceed = asyncio.Event()

    @agent.handles("work")
    async def stubborn(payload: str) -> None:
        while not proceed.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await proceed.wait()

    bench = Bench(agent)
    blocking = assign("t2")
    blocking.assign.spec.type = "block"
    bench.runner.take([assign("t1"), blocking])
    await eventually(lambda: gate.begun)

    async with asyncio.timeout(5):
        await bench.runner.stop(within_s=0.05)

    assert "left 2 handlers behind that do not stop: t1, t2" in caplog.text
    # What waited for the thread does so no longer; nothing is left of it but the thread.
    assert len(bench.runner) == 1
    proceed.set()
    await eventually(lambda: len(bench.runner) == 0)


async def test_an_async_handler_may_speak_from_a_thread() -> None:
    agent = Agent("worker", agent_id="a1")

    @agent.handles("work")
    async def work(payload: str, task: Context) -> str:
        # As a library that blocks is called: what it reports must wake the loop.
        await asyncio.to_thread(task.progress, 0.5, "half way")
        return payload

    asyncio.get_running_loop().set_debug(True)  # refuses what another thread may not do
    record = await run_handler(agent, "work", "x")

    assert (record.progress, record.error) == ([(0.5, "half way")], None)
