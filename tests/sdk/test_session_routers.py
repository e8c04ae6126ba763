"""Routers that refuse, drain or are one of several."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time

import grpc
import pytest

from podium.sdk import session as session_module
from podium.sdk.backoff import Backoff
from podium.sdk.conversation import Outgoing
from podium.sdk.errors import PermissionDenied
from podium.v1 import session_pb2, task_pb2
from podium.v1.session_pb2 import AgentFrame, RouterFrame
from tests.sdk.fakes import FakeRouter, router_of, serving
from tests.sdk.test_session import KEY, LEASE, Running, running
from tests.support.ports import free_port
from tests.support.waiting import eventually


async def test_an_agent_that_is_refused_does_not_hold_up_the_others() -> None:
    router = FakeRouter()
    router.welcoming = False
    async with serving(router_of(router)) as address, running(address, "a1", "a2") as agent:
        await eventually(lambda: len(router.frames("hello")) == 2)
        refusal = session_pb2.Refusal(reason="AGENT_NOT_YOURS", message="not yours")
        router.say(RouterFrame(agent_id="a2", refusal=refusal))
        router.welcome("a1")
        await asyncio.wait_for(agent.session.ready.wait(), 5)

    assert len(router.streams) == 1


async def test_a_stream_lost_while_the_others_wait_does_not_end_them_for_one_that_is_refused() -> (
    None
):
    router = FakeRouter()
    router.welcoming = False
    async with serving(router_of(router)) as address, running(address, "a1", "a2") as agent:
        await eventually(lambda: len(router.frames("hello")) == 2)
        refusal = session_pb2.Refusal(reason="INVALID_FIELD", message="no capability")
        router.say(RouterFrame(agent_id="a2", refusal=refusal))
        router.end()
        await eventually(lambda: len(router.frames("hello")) == 4)
        router.say(RouterFrame(agent_id="a2", refusal=refusal))
        router.welcome("a1")
        await asyncio.wait_for(agent.session.ready.wait(), 5)


async def test_an_agent_that_may_not_speak_says_so_instead_of_trying_for_ever() -> None:
    router = FakeRouter()
    router.welcoming = False
    async with serving(router_of(router)) as address:
        agent = Running(address)
        task = asyncio.create_task(agent.session.run())
        await eventually(lambda: router.frames("hello"))
        refusal = session_pb2.Refusal(reason="CAPABILITY_NOT_GRANTED", message="not granted")
        router.say(RouterFrame(agent_id="a1", refusal=refusal))
        with pytest.raises(PermissionDenied, match="not granted"):
            await asyncio.wait_for(task, 5)


async def test_an_agent_whose_session_is_closed_says_hello_again_with_its_leases() -> None:
    router = FakeRouter()
    async with serving(router_of(router)) as address, running(address, "a1", "a2") as agent:
        await agent.session.ready.wait()
        router.assign("a1")
        await eventually(lambda: agent.delivered)
        closed = session_pb2.Refusal(reason="PROBE_UNANSWERED", message="no answer", closing=True)
        router.say(RouterFrame(agent_id="a1", refusal=closed))
        await eventually(lambda: len(router.frames("hello")) == 3)

    hello = router.frames("hello")[-1]
    assert (hello.agent_id, list(hello.hello.in_flight)) == ("a1", [LEASE])
    assert len(router.streams) == 1


async def test_of_several_routers_one_that_answers_is_taken() -> None:
    async with serving(router_of(FakeRouter())) as address:
        async with running(f"127.0.0.1:{free_port()},{address}") as run:
            await eventually(lambda: run.session.connected)


async def test_agents_that_know_several_routers_spread_over_them() -> None:
    one, other = FakeRouter(), FakeRouter()
    async with contextlib.AsyncExitStack() as stack:
        here = await stack.enter_async_context(serving(router_of(one)))
        there = await stack.enter_async_context(serving(router_of(other)))
        # Of twenty that draw lots, all alike comes once in 500,000 runs.
        for number in range(20):
            await stack.enter_async_context(running(f"{here},{there}", f"a{number}"))
        await eventually(lambda: len(one.frames("hello") + other.frames("hello")) == 20)

        assert one.frames("hello")
        assert other.frames("hello")


async def test_results_and_renewals_do_not_wait_behind_large_pieces() -> None:
    router = FakeRouter()

    def piece(size: int) -> Outgoing:
        report = session_pb2.Progress(lease=LEASE, partial=task_pb2.Payload(data=bytes(size)))
        return ("progress", KEY, AgentFrame(agent_id="a1", progress=report))

    async with serving(router_of(router)) as address, running(address) as agent:
        await agent.session.ready.wait()
        router.assign("a1")
        await eventually(lambda: agent.delivered)
        # All in one turn: what waits is not on its way yet.
        agent.session.send([piece(1)] * (session_module.BULK_LEN_MAX + 1))
        agent.session.send([piece(100_000), piece(2)])
        agent.result()
        await eventually(lambda: router.frames("result"))

    sizes = [len(frame.progress.partial.data) for frame in router.frames("progress")]
    assert sizes == [1] * (session_module.BULK_LEN_MAX + 1) + [2]


async def test_a_router_that_lets_nobody_in_is_left_for_another_and_not_asked_again() -> None:
    full, free = FakeRouter(), FakeRouter()
    full.closing = "DRAINING"
    async with serving(router_of(full)) as one, serving(router_of(free)) as two:
        async with running(f"{one},{two}") as agent:
            await agent.session.ready.wait()

    assert all(stream.ended for stream in full.streams)
    assert len(full.frames("hello")) == len(full.streams) <= 1
    assert len(free.frames("hello")) == 1


async def test_a_router_that_drains_is_left_for_good_and_not_before_there_is_another() -> None:
    router = FakeRouter()
    async with serving(router_of(router)) as address, running(address, "a1", "a2") as agent:
        await agent.session.ready.wait()
        refusal = session_pb2.Refusal(reason="DRAINING", message="no more", closing=True)
        router.say(RouterFrame(agent_id="a1", refusal=refusal))
        await eventually(lambda: len(router.streams) == 2 and router.streams[0].ended)
        await eventually(lambda: agent.session.connected)

        assert [frame.agent_id for frame in router.frames("hello")] == ["a1", "a2"] * 2


async def test_a_session_that_is_closed_again_and_again_waits_before_each_hello(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []

    class Noted(Backoff):
        def next_s(self) -> float:
            waits.append(super().next_s() / 20)
            return waits[-1]

    monkeypatch.setattr(session_module, "Backoff", Noted)
    router = FakeRouter()
    async with serving(router_of(router)) as address, running(address, "a1", "a2") as agent:
        await agent.session.ready.wait()
        router.closing = "PROBE_UNANSWERED"
        refusal = session_pb2.Refusal(reason="PROBE_UNANSWERED", message="no", closing=True)
        router.say(RouterFrame(agent_id="a1", refusal=refusal))
        await eventually(lambda: len(router.frames("hello")) >= 6)
        router.closing = ""
        await eventually(lambda: router.streams[0].agents == ["a1", "a2", "a1"])

        said = [frame.agent_id for frame in router.frames("hello")]
        assert said == ["a1", "a2", *["a1"] * len(waits)]
        assert len(router.streams) == 1


async def test_a_router_to_which_too_many_come_is_asked_again_on_the_stream_after_the_time_it_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_module, "READY_S_MAX", 0.25)
    router = FakeRouter()
    router.closing, router.retry_ms = "HELLO_RATE", 300
    async with serving(router_of(router)) as address:
        began_s = time.monotonic()
        async with running(address) as agent:
            # Longer than Ready may take: the time it was asked to stay away comes on top.
            await eventually(lambda: len(router.frames("hello")) == 3)
            assert time.monotonic() - began_s >= 0.6
            router.closing = ""
            await agent.session.ready.wait()

    assert len(router.streams) == 1


async def test_a_stream_that_ends_for_a_limit_is_opened_again_after_the_time_it_names() -> None:
    slept: list[float] = []

    async def noted(seconds: float) -> None:
        slept.append(seconds)
        await asyncio.sleep(min(seconds, 0.01))

    waits = Backoff(0.001, 0.02, sleep=noted)
    router = FakeRouter()
    router.refusal = (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_AGENTS")
    async with serving(router_of(router)) as address, running(address, backoff=waits) as agent:
        await eventually(lambda: [each for each in slept if 30.0 <= each <= 37.5])
        router.refusal = (grpc.StatusCode.UNAVAILABLE, "STARTING")
        slept.clear()
        # Whatever is only away for now is asked again as soon as ever.
        await eventually(lambda: len([each for each in slept if 0.01 < each <= 5.0]) > 2)
        router.refusal = None
        await agent.session.ready.wait()


async def test_an_agent_that_is_sent_away_for_a_while_does_not_hold_up_the_others() -> None:
    router = FakeRouter()
    router.welcoming = False
    async with serving(router_of(router)) as address, running(address, "a1", "a2") as agent:
        await eventually(lambda: len(router.frames("hello")) == 2)
        refusal = session_pb2.Refusal(reason="HELLO_RATE", message="too many", closing=True)
        refusal.retry_after.FromSeconds(30)
        router.say(RouterFrame(agent_id="a2", refusal=refusal))
        router.welcome("a1")
        await asyncio.wait_for(agent.session.ready.wait(), 5)
        router.assign("a1")
        await eventually(lambda: agent.delivered)

    assert len(router.streams) == 1


async def test_a_stream_stays_while_all_of_its_agents_are_sent_away() -> None:
    router = FakeRouter()
    router.closing, router.retry_ms = "HELLO_RATE", 50
    async with serving(router_of(router)) as address, running(address, "a1", "a2") as agent:
        await eventually(lambda: len(router.frames("hello")) >= 6)
        router.closing = ""
        await asyncio.wait_for(agent.session.ready.wait(), 5)
        await eventually(lambda: sorted(router.streams[0].agents) == ["a1", "a2"])

    assert len(router.streams) == 1


class _Most(random.Random):
    """Draws the bound."""

    def uniform(self, a: float, b: float) -> float:
        return b


async def test_streams_that_are_lost_as_soon_as_they_are_open_are_opened_ever_more_slowly() -> None:
    router, waits = FakeRouter(), []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async with (
        serving(router_of(router)) as address,
        running(address, backoff=Backoff(draw=_Most(), sleep=sleep)) as agent,
    ):
        for count in range(1, 6):
            await eventually(lambda count=count: agent.session.connect_count == count)
            router.end()
        await eventually(lambda: len(waits) == 5)

    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6]


def test_a_stream_that_lasted_is_a_beginning() -> None:
    waits = Backoff(draw=_Most())
    assert [waits.next_s(), waits.next_s()] == [0.1, 0.2]

    waits.lasted(5.0)
    assert waits.next_s() == 0.4
    waits.lasted(5.1)
    assert waits.next_s() == 0.1


async def test_zombie_stream_one_whose_renewals_nobody_answers_is_left_for_another() -> None:
    router = FakeRouter()
    router.lease_ms, router.renew_ms, router.deaf = 200, 40, {0}
    async with serving(router_of(router)) as address, running(address) as agent:
        await agent.session.ready.wait()
        router.assign("a1")
        await eventually(lambda: agent.session.connect_count == 2)
        renewed = len(router.frames("renew"))
        await eventually(lambda: len(router.frames("renew")) > renewed + 5)

        assert agent.session.connect_count == 2, "here they are answered"
        assert list(router.frames("hello")[1].hello.in_flight) == [LEASE]
