from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.sdk.fakes import FakeRouter, router_of, serving, spec
from tests.support.processes import ROOT, Process, Processes
from tests.support.waiting import eventually

PROGRAM = """
from podium.sdk.agent import Agent

agent = Agent("worker", agent_id="a1")

@agent.handles("work")
async def work(payload: str) -> str:
    return "{answer}"
"""

Run = Callable[..., Process]


@pytest.fixture
async def router() -> AsyncIterator[FakeRouter]:
    fake = FakeRouter()
    async with serving(router_of(fake)) as address:
        fake.address = address  # type: ignore[attr-defined]  # tests read it, nobody else
        yield fake


@pytest.fixture
def run(router: FakeRouter, processes: Processes, tmp_path: Path) -> Run:
    """Runs the agent of a file written by the test, as somebody does who is writing it."""

    def run(*options: str) -> Process:
        address: str = router.address  # type: ignore[attr-defined]  # set by the fixture
        path = f"{tmp_path}:{ROOT}:{ROOT / 'clients' / 'python'}"
        environ = {"PODIUM_ROUTING_ADDRESS": address, "PYTHONPATH": path}
        arguments = ("-m", "podium.cli", "agent", "run", "written:agent", *options)
        return processes.python(*arguments, environ=environ)

    return run


def write(folder: Path, answer: str) -> None:
    (folder / "written.py").write_text(PROGRAM.format(answer=answer))


async def answers(router: FakeRouter, count: int) -> list[str]:
    await eventually(lambda: len(router.frames("result")) == count)
    return [frame.result.success.data.decode() for frame in router.frames("result")]


async def test_an_agent_runs_until_it_is_told_to_stop(
    router: FakeRouter, run: Run, tmp_path: Path
) -> None:
    write(tmp_path, "first")
    process = run()
    await eventually(lambda: router.frames("hello"), told=process.output)
    router.assign("a1", "t1", spec=spec())

    assert await answers(router, 1) == ["first"]
    process.signal(signal.SIGINT)
    assert await asyncio.to_thread(process.wait, 20) == 0
    assert router.frames("goodbye")


async def test_with_reload_a_saved_file_answers_the_next_task_on_the_same_session(
    router: FakeRouter, run: Run, tmp_path: Path
) -> None:
    write(tmp_path, "first")
    process = run("--reload")
    await eventually(lambda: router.frames("hello"), told=process.output)
    router.assign("a1", "t1", spec=spec())
    assert await answers(router, 1) == ["first"]

    write(tmp_path, "second")
    await asyncio.to_thread(process.wait_for, "written:agent is reloaded")
    router.assign("a1", "t2", spec=spec())

    assert await answers(router, 2) == ["first", "second"]
    assert len(router.streams) == 1
    assert await asyncio.to_thread(process.stop) == 0
