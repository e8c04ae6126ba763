from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.sdk.fakes import FakeRouter, spec
from tests.support.processes import Process, Processes
from tests.support.waiting import eventually


@pytest.fixture
def program(router: FakeRouter, processes: Processes) -> Iterator[Process]:
    address: str = router.address  # type: ignore[attr-defined]  # set by the fixture
    environ = {"PODIUM_ROUTING_ADDRESS": address, "PODIUM_OTLP_ENDPOINT": "off"}
    yield processes.python("-m", "tests.sdk.stuck", environ=environ)


async def begin(router: FakeRouter, program: Process, kind: str) -> None:
    await eventually(lambda: router.streams and router.streams[0].agents, within_s=20)
    router.assign("a1", spec=spec(kind))
    await eventually(lambda: router.frames("progress"), told=program.output)


@pytest.mark.parametrize("kind", ["thread", "swallow", "pool", "loop"])
async def test_a_program_ends_in_order_though_its_handler_does_not(
    kind: str, router: FakeRouter, program: Process
) -> None:
    await begin(router, program, kind)

    program.signal(signal.SIGINT)

    await eventually(lambda: program.popen.poll() is not None, within_s=20, told=program.output)
    assert program.popen.returncode == 0, program.output()
    assert router.frames("result") == []
    said = [frame.WhichOneof("frame") for frame in router.frames()]
    assert said[-2:] == ["drain", "goodbye"], program.output()


async def test_a_second_ctrl_c_is_heard_while_a_handler_holds_the_program_up(
    router: FakeRouter, program: Process
) -> None:
    await begin(router, program, "loop")

    program.signal(signal.SIGINT)
    await eventually(lambda: router.frames("drain"), told=program.output)
    program.signal(signal.SIGINT)

    await eventually(lambda: program.popen.poll() is not None, within_s=10)
    assert program.popen.returncode in (0, 130)
