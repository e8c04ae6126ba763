"""What sessions answer to bad input, row by row of the matrix, each with exactly that code."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from podium.v1 import routing_pb2, session_pb2
from services.kernel import limits
from services.kernel.clock import SystemClock
from services.kernel.rpc import from_rpc_error
from tests.kernel.keys import make_key, publish, token
from tests.routing.peers import FENCED, Room, room

Frame = session_pb2.AgentFrame
REFUSED = session_pb2.ResultAck.VERDICT_REFUSED
STRANGE = session_pb2.LeaseRef(task_id="t9", lease_epoch=1)


def introduction(agent_id: str, capability: str) -> Frame:
    hello = session_pb2.Hello(instance_id="i1", capabilities=[{"name": capability}])
    return Frame(agent_id=agent_id, hello=hello)


async def still_works(here: Room, wire: Any, agent_id: str) -> None:
    """Asserts that the session goes on: it is given a task."""
    count = len(wire.of(agent_id, "assign"))
    here.scheduler.grant(f"after-{agent_id}", await here.scheduler.class_of("echo"))
    await wire.until(agent_id, "assign", count + 1)


@asynccontextmanager
async def checked(folder: Path) -> AsyncIterator[tuple[Room, str]]:
    """A router that asks who calls, and the token of agent-7, which may do echo."""
    key = make_key()
    publish(folder, "k1", key)
    now_s = SystemClock().now().wall_ms // 1_000
    shown = token(key, iat=now_s, exp=now_s + 900, capabilities=["echo"])
    async with room(auth="jwt", auth_keys_dir=folder) as here:
        yield here, shown


def told(refusal: session_pb2.Refusal) -> tuple[str, str, bool]:
    return refusal.code, refusal.reason, refusal.closing


async def test_b23_b39_a_load_that_is_no_number() -> None:
    async with room() as here:
        wire = here.wire()
        await wire.hello("a1")
        for load in (float("nan"), float("inf"), -0.5):
            await wire.send(Frame(agent_id="a1", heartbeat=session_pb2.Heartbeat(load=load)))
        refusals = await wire.until("a1", "refusal", 3)
        await wire.send(Frame(agent_id="a1", heartbeat=session_pb2.Heartbeat(load=1e308)))

        assert {told(each) for each in refusals} == {("INVALID_ARGUMENT", "INVALID_FIELD", False)}
        await still_works(here, wire, "a1")
        assert len(wire.of("a1", "refusal")) == 3


IDS = ["", "a\0b", "a\nb", "../a", "a\u202eb", "x" * 65, "\u0041\u030a", "A"]


@pytest.mark.parametrize("agent_id", IDS, ids=range(len(IDS)))
async def test_b24_ids_that_are_none(agent_id: str) -> None:
    async with room() as here:
        wire = here.wire()
        hello = session_pb2.Hello(instance_id="i1", capabilities=[{"name": "echo"}])
        await wire.send(Frame(agent_id=agent_id, hello=hello))
        error = await wire.ended()

        assert (error.code, error.violations[0].field) == ("INVALID_ARGUMENT", "agent_id")


@pytest.mark.parametrize("names", [["x"] * 10_000, [""], ["*"], []], ids=range(4))
async def test_b25_capabilities_that_are_none(names: list[str]) -> None:
    async with room() as here:
        wire = here.wire()
        hello = session_pb2.Hello(instance_id="i1", capabilities=[{"name": n} for n in names])
        await wire.send(Frame(agent_id="a1", hello=hello))
        error = await wire.ended()

        assert error.code == "INVALID_ARGUMENT"
        assert error.violations[0].field.startswith("hello.capabilities")


async def test_b25_a_capability_named_twice_is_one() -> None:
    async with room() as here:
        wire = here.wire()
        await wire.hello("a1", "echo", "echo")

        await still_works(here, wire, "a1")


async def test_b28_a_capability_beyond_the_token(tmp_path: Path) -> None:
    async with checked(tmp_path) as (here, token):
        wire = here.wire(token)
        await wire.send(introduction("agent-7", "root"))
        [refusal] = await wire.until("agent-7", "refusal")
        await wire.send(Frame(agent_id="agent-7", heartbeat={}))
        await wire.hello("agent-7-b", "echo")

        assert told(refusal) == ("PERMISSION_DENIED", "CAPABILITY_NOT_GRANTED", False)
        assert not wire.of("agent-7", "ready")
        assert {name for each in here.scheduler.credits.values() for name in each.capabilities} <= {
            "echo"
        }


OF_ANOTHER: dict[str, dict[str, Any]] = {
    "complete": {"result": session_pb2.Result(lease=STRANGE, success={})},
    "heartbeat": {"heartbeat": session_pb2.Heartbeat()},
    "renew": {"renew": session_pb2.Renew(leases=[STRANGE])},
    "resume": {
        "hello": session_pb2.Hello(
            instance_id="i1", capabilities=[{"name": "echo"}], in_flight=[STRANGE]
        )
    },
}


@pytest.mark.parametrize("frame", OF_ANOTHER.values(), ids=OF_ANOTHER)
async def test_b29_acting_for_another_agent(tmp_path: Path, frame: dict[str, Any]) -> None:
    async with checked(tmp_path) as (here, token):
        wire = here.wire(token)
        await wire.hello("agent-7", "echo")
        await wire.send(Frame(agent_id="agent-8", **frame))
        [refusal] = await wire.until("agent-8", "refusal")

        assert told(refusal) == ("PERMISSION_DENIED", "AGENT_NOT_YOURS", False)
        assert not here.scheduler.of_kind("ended")
        await still_works(here, wire, "agent-7")


async def test_b29_sixteen_strikes_and_out(tmp_path: Path) -> None:
    async with checked(tmp_path) as (here, token):
        wire = here.wire(token)
        await wire.hello("agent-7", "echo")
        for _ in range(16):
            await wire.send(Frame(agent_id="agent-8", heartbeat={}))
        error = await wire.ended()

        assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_STRIKES")
        assert error.retry_after_s is not None


async def test_b29_by_call(tmp_path: Path) -> None:
    async with checked(tmp_path) as (here, token):
        request = routing_pb2.ReportResultRequest(agent_id="agent-8")
        request.result.CopyFrom(session_pb2.Result(lease=STRANGE, success={}))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await here.stub.ReportResult(request, metadata=[("authorization", f"Bearer {token}")])

        error = from_rpc_error(raised.value)
        assert (error.code, error.reason) == ("PERMISSION_DENIED", "AGENT_NOT_YOURS")


async def test_b36_a_result_of_a_lease_that_is_over() -> None:
    async with room() as here:
        here.scheduler.verdict = FENCED
        wire = here.wire()
        await wire.hello("a1")
        await wire.result("a1", STRANGE)
        [ack] = await wire.until("a1", "result_ack")

        assert ack.verdict == FENCED
        await still_works(here, wire, "a1")


async def test_b36_the_task_of_another() -> None:
    async with room() as here:
        wire, other = here.wire(), here.wire()
        await wire.hello("a1")
        lease = here.scheduler.grant("t1", await here.scheduler.class_of("echo"))
        await wire.until("a1", "assign")
        await other.hello("a2", "other")
        await other.result("a2", lease)
        [refusal] = await other.until("a2", "refusal")

        assert told(refusal) == ("PERMISSION_DENIED", "LEASE_NOT_YOURS", False)
        assert not here.scheduler.of_kind("ended")


async def test_b37_a_result_above_the_limit_costs_the_attempt_and_not_the_session() -> None:
    async with room() as here:
        wire = here.wire()
        await wire.hello("a1")
        lease = here.scheduler.grant("t1", await here.scheduler.class_of("echo"))
        await wire.until("a1", "assign")
        await wire.result("a1", lease, bytes(limits.payload_bytes_max + 1))
        [ended] = await here.scheduler.until("ended")
        [ack] = await wire.until("a1", "result_ack")

        assert ended.failure.reason == "RESULT_TOO_LARGE"
        assert ack.verdict == REFUSED
        await still_works(here, wire, "a1")


async def test_b38_a_first_frame_that_is_not_hello() -> None:
    async with room() as here:
        wire = here.wire()
        await wire.send(Frame(agent_id="a1", heartbeat={}))
        error = await wire.ended()

        assert (error.code, error.reason) == ("FAILED_PRECONDITION", "HELLO_REQUIRED")


async def test_b38_a_first_frame_that_is_not_hello_among_other_agents() -> None:
    async with room() as here:
        wire = here.wire()
        await wire.hello("a1")
        await wire.send(Frame(agent_id="a2", heartbeat={}))
        [refusal] = await wire.until("a2", "refusal")

        assert told(refusal) == ("FAILED_PRECONDITION", "HELLO_REQUIRED", False)
        await still_works(here, wire, "a1")


async def test_b38_a_second_hello() -> None:
    async with room() as here:
        wire = here.wire()
        await wire.hello("a1")
        hello = session_pb2.Hello(instance_id="a1-1", capabilities=[{"name": "echo"}])
        await wire.send(Frame(agent_id="a1", hello=hello))
        [refusal] = await wire.until("a1", "refusal")

        assert told(refusal) == ("FAILED_PRECONDITION", "HELLO_REPEATED", False)
        await still_works(here, wire, "a1")


async def test_b38_a_flood_of_heartbeats() -> None:
    async with room() as here:
        flooding, calm = here.wire(), here.wire()
        await flooding.hello("flooding", "other")
        await calm.hello("calm")
        # 200 at once are no flood; then it is read no faster than it may talk, and then no more.
        for _ in range(200 // 5 + 40):
            await flooding.send(*[Frame(agent_id="flooding", heartbeat={})] * 5)
        error = await flooding.ended()

        assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "FRAME_RATE")
        assert error.retry_after_s is not None
        await still_works(here, calm, "calm")


async def test_b38_what_is_said_after_goodbye() -> None:
    async with room() as here:
        wire = here.wire()
        await wire.hello("a1")
        await wire.hello("a2")
        await wire.send(Frame(agent_id="a1", goodbye={}))
        await wire.send(*[Frame(agent_id="a1", result={"lease": STRANGE, "success": {}})] * 50)

        await still_works(here, wire, "a2")
        assert not wire.of("a1", "refusal")
        assert not here.scheduler.of_kind("ended")


@pytest.mark.parametrize("concurrency", [-1, 1_001, 10**9])
async def test_b39_a_concurrency_that_is_none(concurrency: int) -> None:
    async with room() as here:
        wire = here.wire()
        hello = session_pb2.Hello(instance_id="i", capabilities=[{"name": "echo"}])
        hello.max_concurrency = concurrency
        await wire.send(Frame(agent_id="a1", hello=hello))
        error = await wire.ended()

        assert (error.code, error.violations[0].field) == (
            "INVALID_ARGUMENT",
            "hello.max_concurrency",
        )


async def test_b39_a_concurrency_of_0_is_1() -> None:
    async with room() as here:
        wire = here.wire()
        await wire.hello("a1", max_concurrency=0)
        listed = await here.stub.ListSessions(routing_pb2.ListSessionsRequest())

        assert listed.sessions[0].max_concurrency == 1


async def test_b45_fields_that_nobody_knows_are_no_fault() -> None:
    async with room() as here:
        wire = here.wire()
        hello = introduction("a1", "echo").hello.SerializeToString()
        unknown = session_pb2.Hello.FromString(hello + b"\xfa\xf0\x04\x03new")
        await wire.send(Frame(agent_id="a1", hello=unknown))

        await wire.until("a1", "ready")
