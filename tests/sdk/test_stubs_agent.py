from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from podium.v1 import session_pb2
from podium.v1.session_pb2 import LeaseRef, RouterFrame
from tests.sdk.fakes import FakeRouter, router_of, serving, spec
from tests.support.ports import free_port
from tests.support.processes import ROOT, Process, Processes
from tests.support.waiting import eventually

AGENT = ROOT / "examples" / "stubs_agent" / "agent.py"
ID = "wordy"


@pytest.fixture
async def router() -> FakeRouter:
    return FakeRouter()


@pytest.fixture
async def address(router: FakeRouter) -> AsyncIterator[str]:
    async with serving(router_of(router)) as served:
        yield served


def start(processes: Processes, address: str) -> Process:
    return processes.python(str(AGENT), environ={"PODIUM_ROUTING_ADDRESS": address})


def test_it_is_short_and_knows_the_stubs_alone() -> None:
    text = Path(AGENT).read_text()

    assert text.count("\n") < 130
    assert "podium.sdk" not in text


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_it_acks_answers_grows_its_credit_and_leaves_in_order(
    router: FakeRouter, address: str, processes: Processes, how: signal.Signals
) -> None:
    agent = start(processes, address)
    await eventually(lambda: router.frames("credit"))
    router.assign(ID, spec=spec("text.count", b"three words here"))
    await eventually(lambda: len(router.frames("credit")) == 2)
    router.say(RouterFrame(agent_id=ID, probe=session_pb2.Probe(nonce=7)))
    await eventually(lambda: router.frames("probe_reply"))
    agent.signal(how)
    code = await asyncio.to_thread(agent.wait)

    kinds = [frame.WhichOneof("frame") for frame in router.frames()]
    assert code == 0, agent.output()
    assert kinds[:4] == ["hello", "credit", "ack", "result"]
    assert [kind for kind in kinds if kind in ("drain", "goodbye")] == ["drain", "goodbye"]
    assert kinds[-1] == "goodbye"
    assert router.frames("result")[0].result.success.data == b"3"
    assert [frame.credit.total for frame in router.frames("credit")][:2] == [4, 5]
    assert router.frames("probe_reply")[0].probe_reply.nonce == 7


async def test_it_returns_with_its_leases_and_repeats_results_until_they_are_settled(
    router: FakeRouter, processes: Processes
) -> None:
    port = free_port()
    router.acking = False
    async with serving(router_of(router), port=port):
        start(processes, f"127.0.0.1:{port}")
        await eventually(lambda: router.frames("credit"))
        router.assign(ID, spec=spec("text.count", b"one"))
        await eventually(lambda: router.frames("result"))
    router.acking = True
    async with serving(router_of(router), port=port):
        await eventually(lambda: len(router.frames("result")) == 2)

    hello = router.frames("hello")[-1].hello
    assert list(hello.in_flight) == [LeaseRef(task_id="t1", lease_epoch=1)]
    assert hello.resume_token == "token-1"


async def test_it_renews_and_forgets_what_is_lost(
    router: FakeRouter, address: str, processes: Processes
) -> None:
    router.renew_ms = 50
    router.acking = False
    start(processes, address)
    await eventually(lambda: router.frames("credit"))
    router.assign(ID, spec=spec("text.count", b"one"))
    await eventually(lambda: any(frame.renew.leases for frame in router.frames("renew")))
    lost = session_pb2.RenewAck(lost=[LeaseRef(task_id="t1", lease_epoch=1)])
    router.say(RouterFrame(agent_id=ID, renew_ack=lost))

    await eventually(lambda: not router.frames("renew")[-1].renew.leases)


async def test_it_declines_what_it_cannot_do_and_asks_for_as_much_as_before(
    router: FakeRouter, address: str, processes: Processes
) -> None:
    start(processes, address)
    await eventually(lambda: router.frames("credit"))
    router.assign(ID, spec=spec("text.paint", b"a picture"))
    await eventually(lambda: len(router.frames("credit")) == 2)

    assert router.frames("nack")[0].nack == session_pb2.Nack(
        lease=LeaseRef(task_id="t1", lease_epoch=1), reason=session_pb2.Nack.REASON_INCAPABLE
    )
    assert [frame.credit.total for frame in router.frames("credit")] == [4, 5]
    assert not router.frames("ack")


async def test_it_declines_what_comes_after_it_was_told_to_leave(
    router: FakeRouter, address: str, processes: Processes
) -> None:
    router.acking = False
    agent = start(processes, address)
    await eventually(lambda: router.frames("credit"))
    router.assign(ID, spec=spec("text.count", b"one"))
    await eventually(lambda: router.frames("result"))
    agent.signal(signal.SIGTERM)
    await eventually(lambda: router.frames("drain"))
    router.assign(ID, "t2", spec=spec("text.count", b"one two"))
    await eventually(lambda: router.frames("nack"))

    assert router.frames("nack")[0].nack.reason == session_pb2.Nack.REASON_DRAINING


async def test_a_second_ctrl_c_ends_it_at_once(
    router: FakeRouter, address: str, processes: Processes
) -> None:
    router.acking = False  # what it has is never settled
    agent = start(processes, address)
    await eventually(lambda: router.frames("credit"))
    router.assign(ID, spec=spec("text.count", b"one"))
    await eventually(lambda: router.frames("result"))
    agent.signal(signal.SIGINT)
    await eventually(lambda: router.frames("drain"))
    agent.signal(signal.SIGINT)

    assert await asyncio.to_thread(agent.wait) == 130


async def test_a_drain_that_nobody_heard_is_said_when_somebody_listens(
    router: FakeRouter, processes: Processes
) -> None:
    port = free_port()
    router.acking = False
    async with serving(router_of(router), port=port):
        agent = start(processes, f"127.0.0.1:{port}")
        await eventually(lambda: router.frames("credit"))
        router.assign(ID, spec=spec("text.count", b"one"))
        await eventually(lambda: router.frames("result"))
    agent.signal(signal.SIGTERM)
    router.acking = True
    async with serving(router_of(router), port=port):
        assert await asyncio.to_thread(agent.wait) == 0

    kinds = [frame.WhichOneof("frame") for frame in router.frames()]
    assert kinds.index("drain") > len(kinds) - kinds[::-1].index("hello") - 1
    assert kinds[-1] == "goodbye"
