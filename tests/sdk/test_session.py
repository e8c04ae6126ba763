from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from podium.sdk import session as session_module
from podium.sdk.backoff import Backoff
from podium.sdk.conversation import Outgoing
from podium.sdk.identity import Identity
from podium.sdk.session import Session
from podium.v1 import agent_pb2, session_pb2, task_pb2
from podium.v1.session_pb2 import AgentFrame, LeaseRef, LeaseVerdict, RouterFrame
from tests.sdk.fakes import FakeRouter, router_of, serving, settings
from tests.support.ports import free_port
from tests.support.proxy import proxied
from tests.support.waiting import eventually

LEASE = LeaseRef(task_id="t1", lease_epoch=1)
KEY = ("t1", 1)


class Running:
    """A session under test, with all that it delivered."""

    def __init__(self, address: str, *agent_ids: str, backoff: Backoff | None = None) -> None:
        self.delivered: list[RouterFrame] = []
        identities = [
            Identity(agent_id, [agent_pb2.Capability(name="work")], instance_id="i1")
            for agent_id in agent_ids or ("a1",)
        ]
        self.session = Session(
            identities,
            settings(routing=address).peer("routing"),
            self.delivered.extend,
            backoff=backoff or Backoff(0.001, 0.02, draw=random.Random(1)),
        )

    def result(self, data: bytes = b"done", key: tuple[str, int] = KEY) -> None:
        lease = LeaseRef(task_id=key[0], lease_epoch=key[1])
        result = session_pb2.Result(lease=lease, success=task_pb2.Payload(data=data))
        item: Outgoing = ("result", key, AgentFrame(agent_id="a1", result=result))
        self.session.send([item])

    def kinds(self) -> list[str | None]:
        return [frame.WhichOneof("frame") for frame in self.delivered]


@asynccontextmanager
async def running(
    address: str, *agent_ids: str, backoff: Backoff | None = None
) -> AsyncIterator[Running]:
    made = Running(address, *agent_ids, backoff=backoff)
    task = asyncio.create_task(made.session.run())
    try:
        yield made
    finally:
        await made.session.stop()
        await asyncio.wait_for(task, 5)


async def test_a_lost_stream_costs_nothing_leases_token_and_position_come_back() -> None:
    router = FakeRouter()
    async with serving(router_of(router)) as address, running(address) as agent:
        await agent.session.ready.wait()
        router.assign("a1")
        await eventually(lambda: agent.delivered)
        router.end()
        await eventually(lambda: len(router.streams) == 2 and agent.session.connected)

    hello = router.frames("hello")[1].hello
    assert list(hello.in_flight) == [LEASE]
    assert (hello.resume_token, hello.last_seq) == ("token-1", 2)
    assert agent.kinds() == ["assign"]


async def test_a_result_is_repeated_until_it_is_settled() -> None:
    router = FakeRouter()
    router.acking = False
    async with serving(router_of(router)) as address, running(address) as agent:
        await agent.session.ready.wait()
        router.assign("a1")
        await eventually(lambda: agent.delivered)
        agent.result()
        await eventually(lambda: len(router.frames("result")) == 1)
        router.end()
        await eventually(lambda: len(router.frames("result")) == 2)
        router.acking = True
        router.end()
        await eventually(lambda: len(router.frames("result")) == 3)
        await eventually(lambda: not agent.session.talk.leases)

    assert {frame.result.success.data for frame in router.frames("result")} == {b"done"}


async def test_a_result_made_without_a_stream_is_sent_on_the_next_one() -> None:
    router = FakeRouter()
    port = free_port()
    async with running(f"127.0.0.1:{port}") as agent:
        async with serving(router_of(router), port=port):
            await agent.session.ready.wait()
            router.assign("a1")
            await eventually(lambda: agent.delivered)
        await eventually(lambda: not agent.session.connected)
        agent.result(b"made alone")
        async with serving(router_of(router), port=port):
            await eventually(lambda: router.frames("result"))
            await eventually(lambda: not agent.session.talk.leases)

    assert router.frames("result")[0].result.success.data == b"made alone"


async def test_give_up_reconnect_after_a_long_time_without_a_router_it_comes_back_to_one() -> None:
    router = FakeRouter()
    port = free_port()
    slept_s = 0.0
    long, back = asyncio.Event(), asyncio.Event()
    back.set()

    async def sleep(seconds: float) -> None:
        nonlocal slept_s
        # Not 5: while nobody is there, its wait is how long it is late once somebody is.
        assert seconds <= 1.0
        slept_s += seconds
        if slept_s >= 900.0:
            long.set()
            await back.wait()

    async with running(f"127.0.0.1:{port}", backoff=Backoff(sleep=sleep)) as agent:
        async with serving(router_of(router), port=port):
            await agent.session.ready.wait()
            router.assign("a1")
            await eventually(lambda: agent.delivered)
            back.clear()
        await asyncio.wait_for(long.wait(), 30.0)
        async with serving(router_of(router), port=port):
            back.set()
            await eventually(lambda: len(router.frames("hello")) == 2)
            agent.result()
            await eventually(lambda: router.frames("result"))

    assert list(router.frames("hello")[1].hello.in_flight) == [LEASE]


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        (LeaseVerdict.VERDICT_LOST, "LEASE_LOST"),
        (LeaseVerdict.VERDICT_CANCEL, "CANCELED"),
    ],
)
async def test_a_lease_that_is_over_after_a_reconnect_stops_the_work(
    verdict: LeaseVerdict.Verdict, reason: str
) -> None:
    router = FakeRouter()
    router.verdict = verdict
    async with serving(router_of(router)) as address, running(address) as agent:
        await agent.session.ready.wait()
        router.assign("a1")
        await eventually(lambda: agent.delivered)
        router.end()
        await eventually(lambda: agent.kinds() == ["assign", "cancel"])

    assert agent.delivered[1].cancel.reason == reason


async def test_a_router_that_drains_is_left_only_when_the_replacement_is_open() -> None:
    old, new = FakeRouter(), FakeRouter()
    new.welcoming = False
    async with serving(router_of(old)) as here, serving(router_of(new)) as there:
        async with running(here) as agent:
            await agent.session.ready.wait()
            old.assign("a1")
            await eventually(lambda: agent.delivered)
            old.say(RouterFrame(drain=session_pb2.RouterDrain(address=there)))
            await eventually(lambda: new.frames("hello"))
            agent.result(b"on the old one")
            await eventually(lambda: old.frames("result"))
            assert not old.streams[0].ended
            assert list(new.frames("hello")[0].hello.in_flight) == [LEASE]
            ready = session_pb2.Ready(resume_token="r")
            new.say(RouterFrame(agent_id="a1", ready=ready))
            await eventually(lambda: old.streams[0].ended)
            assert agent.session.connected
            new.assign("a1", "t2")
            await eventually(lambda: len(agent.delivered) == 2)
            agent.result(b"on the new one", ("t2", 1))
            await eventually(lambda: new.frames("result"))

    assert not new.streams[0].agents
    assert not old.frames("goodbye")


async def test_a_replacement_that_cannot_be_had_does_not_end_the_session() -> None:
    router = FakeRouter()
    async with serving(router_of(router)) as address, running(address) as agent:
        await agent.session.ready.wait()
        nowhere = f"127.0.0.1:{free_port()}"
        router.say(RouterFrame(drain=session_pb2.RouterDrain(address=nowhere)))
        router.end()
        await eventually(lambda: len(router.streams) == 2 and agent.session.connected)


async def test_without_a_stream_for_long_results_are_reported_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_module, "FALLBACK_AFTER_S", 0.05)
    router = FakeRouter()
    async with serving(router_of(router)) as address, running(address) as agent:
        await agent.session.ready.wait()
        router.assign("a1")
        await eventually(lambda: agent.delivered)
        # The way for sessions is blocked, the way for calls is not.
        router.refuse_sessions()
        await eventually(lambda: not agent.session.connected)
        agent.result(b"by call")
        await eventually(lambda: router.reported)
        await eventually(lambda: not agent.session.talk.leases)

    assert router.reported[0].agent_id == "a1"
    assert router.reported[0].result.success.data == b"by call"


async def test_a_hello_without_an_answer_is_given_up_and_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_module, "READY_S_MAX", 0.05)
    router = FakeRouter()
    router.welcoming = False
    async with serving(router_of(router)) as address, running(address) as agent:
        await eventually(lambda: len(router.streams) >= 3)
        assert not agent.session.connected
        router.welcoming = True
        await asyncio.wait_for(agent.session.ready.wait(), 5)


async def test_the_session_is_ready_when_all_of_its_agents_are() -> None:
    router = FakeRouter()
    router.welcoming = False
    async with serving(router_of(router)) as address, running(address, "a1", "a2") as agent:
        await eventually(lambda: len(router.frames("hello")) == 2)
        router.say(RouterFrame(agent_id="a1", ready=session_pb2.Ready()))
        probe = RouterFrame(agent_id="a1", probe=session_pb2.Probe(nonce=1))
        router.say(probe)
        await eventually(lambda: router.frames("probe_reply"))
        assert not agent.session.ready.is_set()
        router.say(RouterFrame(agent_id="a2", ready=session_pb2.Ready()))
        await asyncio.wait_for(agent.session.ready.wait(), 5)


async def test_heartbeats_and_renewals_keep_the_routers_pace_also_when_it_changes() -> None:
    router = FakeRouter()
    async with serving(router_of(router)) as address, running(address) as agent:
        await agent.session.ready.wait()
        router.assign("a1")
        await eventually(lambda: agent.delivered)
        tune = session_pb2.Tune()
        tune.heartbeat_interval.FromMilliseconds(40)
        tune.renew_interval.FromMilliseconds(60)
        router.say(RouterFrame(tune=tune))
        await eventually(lambda: len(router.frames("heartbeat")) >= 2)
        await eventually(lambda: len(router.frames("renew")) >= 2)

    assert list(router.frames("renew")[0].renew.leases) == [LEASE]


async def test_a_result_larger_than_the_routers_frames_goes_in_a_message_of_its_own() -> None:
    router = FakeRouter()
    router.frame_bytes_max = 1_000_000
    async with serving(router_of(router)) as address, running(address) as agent:
        await agent.session.ready.wait()
        for number in range(12):
            router.assign("a1", f"t{number}")
        await eventually(lambda: len(agent.delivered) == 12)
        for number in range(12):
            agent.result(bytes(250_000), (f"t{number}", 1))
        await eventually(lambda: len(router.frames("result")) == 12)

    assert max(sum(f.ByteSize() for f in message) for message in router.messages) < 1_000_000


def test_waits_are_drawn_evenly_up_to_a_bound_that_doubles_to_its_cap() -> None:
    fleet = [Backoff(draw=random.Random(seed)) for seed in range(1_000)]

    for bound_s in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0):
        waits = [backoff.next_s() for backoff in fleet]
        assert 0 <= min(waits) < bound_s * 0.01
        assert bound_s * 0.99 < max(waits) <= bound_s
        assert abs(sum(waits) / len(waits) - bound_s / 2) < bound_s * 0.05
    fleet[0].reset()
    assert fleet[0].next_s() <= 0.1


async def test_finishing_waits_for_the_settling_and_says_goodbye() -> None:
    router = FakeRouter()
    router.acking = False
    async with serving(router_of(router)) as address, running(address) as agent:
        await agent.session.ready.wait()
        router.assign("a1")
        await eventually(lambda: agent.delivered)
        finishing = asyncio.create_task(agent.session.finish(10))
        await eventually(lambda: router.frames("drain"))
        agent.result()
        await eventually(lambda: router.frames("result"))
        assert not finishing.done()
        ack = session_pb2.ResultAck(lease=LEASE, verdict=session_pb2.ResultAck.VERDICT_ACCEPTED)
        router.say(RouterFrame(agent_id="a1", result_ack=ack))
        await asyncio.wait_for(finishing, 5)
        await eventually(lambda: router.frames("goodbye"))

    assert agent.session.talk.verdict_counts[session_pb2.ResultAck.VERDICT_ACCEPTED] == 1


async def test_a_grace_that_is_over_ends_the_session_with_work_unfinished(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = FakeRouter()
    async with serving(router_of(router)) as address, running(address) as agent:
        await agent.session.ready.wait()
        router.assign("a1")
        await eventually(lambda: agent.delivered)
        start_s = time.monotonic()
        await agent.session.finish(0.05)
        assert time.monotonic() - start_s >= 0.05

    assert "1 tasks unfinished" in caplog.text


async def test_work_that_comes_before_all_agents_are_accepted_is_answered_all_the_same() -> None:
    router = FakeRouter()
    router.welcoming = False
    async with serving(router_of(router)) as address, running(address, "a1", "a2") as agent:
        await eventually(lambda: len(router.frames("hello")) == 2)
        router.welcome("a1")
        router.assign("a1")
        await eventually(lambda: KEY in agent.session.talk.leases)
        assert not agent.delivered
        router.welcome("a2")
        await eventually(lambda: agent.delivered)
        agent.result()
        await eventually(lambda: router.frames("result"))

    assert agent.kinds() == ["assign"]


async def test_a_router_that_takes_its_time_to_answer_is_connected_to_once() -> None:
    async with serving(router_of(FakeRouter())) as address, proxied(address) as busy:
        busy.freeze("down")
        # Longer than the first backoff, which is not how long a connection may take.
        asyncio.get_running_loop().call_later(0.3, busy.heal)
        async with running(busy.address) as it:
            await it.session.ready.wait()

    assert busy.accepted == 1


async def test_a_router_that_is_gone_is_knocked_for_and_each_eighth_try_is_a_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries: list[str] = []

    async def knock(address: str) -> bool:
        tries.append("knock")
        return False

    class Noted(session_module.Link):
        def __init__(self, *args: Any, **given: Any) -> None:
            tries.append("stream")
            super().__init__(*args, **given)

    monkeypatch.setattr(session_module, "knock", knock)
    monkeypatch.setattr(session_module, "Link", Noted)
    async with serving(router_of(FakeRouter())) as address, proxied(address) as proxy:
        async with running(proxy.address) as it:
            await it.session.ready.wait()
            proxy.refuse()
            proxy.cut()
            await eventually(lambda: len(tries) > 16)

    cycle = ["knock"] * 7 + ["stream"]
    assert tries[:17] == ["stream", *cycle, *cycle]
