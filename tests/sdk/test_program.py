from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.sdk.fakes import FakeRouter, results, spec
from tests.support.processes import Process, Processes
from tests.support.waiting import eventually


@pytest.fixture
def program(router: FakeRouter, processes: Processes) -> Iterator[Process]:
    address: str = router.address  # type: ignore[attr-defined]  # set by the fixture
    environ = {"PODIUM_ROUTING_ADDRESS": address, "PODIUM_OTLP_ENDPOINT": "off"}
    yield processes.python("-m", "tests.sdk.program", environ=environ)


async def begin(router: FakeRouter, program: Process, payload: bytes) -> None:
    await eventually(lambda: router.streams and router.streams[0].agents, within_s=20)
    router.assign("a1", spec=spec(data=payload))
    await eventually(lambda: router.frames("progress"), told=program.output)


async def test_ctrl_c_lets_running_tasks_finish_in_their_processes_too(
    router: FakeRouter, program: Process
) -> None:
    await begin(router, program, b"0.5")

    # As a terminal does it: to the whole group, the processes of the pool included.
    os.killpg(program.pid, signal.SIGINT)

    await eventually(lambda: program.popen.poll() is not None, within_s=20)
    assert program.popen.returncode == 0, program.output()
    assert results(router.frames("result")) == [("t1", "success")]
    kinds = [frame.WhichOneof("frame") for frame in router.frames()]
    assert kinds[-3:] == ["drain", "result", "goodbye"]


async def test_a_second_ctrl_c_ends_the_program_at_once(
    router: FakeRouter, program: Process
) -> None:
    await begin(router, program, b"60")

    os.killpg(program.pid, signal.SIGINT)
    await eventually(lambda: "once more to stop at once" in program.output())
    os.killpg(program.pid, signal.SIGINT)

    await eventually(lambda: program.popen.poll() is not None, within_s=10)
    assert program.popen.returncode == 130
    assert router.frames("result") == []


@pytest.mark.parametrize(
    ("how", "number", "code"),
    [
        # As asyncio has it: the task is cancelled, and ends in order before the interrupt goes on.
        ("run", signal.SIGINT, -signal.SIGINT),
        ("host", signal.SIGINT, -signal.SIGINT),
        ("host", signal.SIGTERM, 0),
    ],
)
async def test_a_program_with_a_loop_of_its_own_finishes_what_it_has_too(
    how: str, number: signal.Signals, code: int, router: FakeRouter, processes: Processes
) -> None:
    address: str = router.address  # type: ignore[attr-defined]  # set by the fixture
    environ = {"PODIUM_ROUTING_ADDRESS": address, "PODIUM_OTLP_ENDPOINT": "off"}
    program = processes.python("-m", "tests.sdk.embedded", how, environ=environ)
    await begin(router, program, b"0.3")

    program.signal(number)

    await eventually(lambda: program.popen.poll() is not None, within_s=20, told=program.output)
    assert program.popen.returncode == code, program.output()
    assert results(router.frames("result")) == [("t1", "success")]
    kinds = [frame.WhichOneof("frame") for frame in router.frames()]
    assert kinds[-3:] == ["drain", "result", "goodbye"]
