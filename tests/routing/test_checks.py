"""What agents send wrong, and the precise answer each gets."""

from __future__ import annotations

from typing import Any

import grpc.aio
import pytest

from podium.sdk import leases
from podium.v1 import agent_pb2, session_pb2, task_pb2
from services.kernel import limits
from services.kernel.errors import InvalidArgument
from services.kernel.rpc import from_rpc_error
from services.routing.servicer import checks, listener
from tests.routing.peers import room

Frame = session_pb2.AgentFrame
REFUSED = session_pb2.ResultAck.VERDICT_REFUSED


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ({"success": {"data": b"x" * (limits.payload_bytes_max + 1)}}, "RESULT_TOO_LARGE"),
        ({"failure": {"reason": "not a reason"}}, "RESULT_INVALID"),
        ({"success": {}, "usage": {"cost": float("nan")}}, "RESULT_INVALID"),
        ({"success": {}, "usage": {"input_tokens": -1}}, "RESULT_INVALID"),
        ({"success": {}, "confidence": 2.0}, "RESULT_INVALID"),
        ({"success": {"content_type": "x" * 129}}, "RESULT_INVALID"),
        ({"success": {}, "traceparent": "0" * 129}, "RESULT_INVALID"),
    ],
)
async def test_size_trap_a_result_that_cannot_be_taken_fails_the_attempt_and_not_the_session(
    result: dict[str, Any], reason: str
) -> None:
    async with room() as here:
        wire = here.wire()
        await wire.hello("a1")
        lease = here.scheduler.grant("t1", await here.scheduler.class_of("echo"))
        await wire.until("a1", "assign")

        said = session_pb2.Result(lease=lease, **result)
        await wire.send(Frame(agent_id="a1", result=said))
        [ended] = await here.scheduler.until("ended")
        [ack] = await wire.until("a1", "result_ack")

        assert ended.failure.reason == reason
        assert ack.verdict == REFUSED
        here.scheduler.grant("t2", await here.scheduler.class_of("echo"))
        await wire.until("a1", "assign", 2)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"question": {"data": b"x" * (limits.payload_bytes_max + 1)}}, "QUESTION_TOO_LARGE"),
        ({"usage": {"cost": float("inf")}}, "QUESTION_INVALID"),
        ({"question": {"content_type": "x" * 129}}, "QUESTION_INVALID"),
    ],
)
async def test_a_question_that_cannot_be_taken_fails_the_attempt_too(
    asked: dict[str, Any], reason: str
) -> None:
    async with room() as here:
        wire = here.wire()
        await wire.hello("a1")
        lease = here.scheduler.grant("t1", await here.scheduler.class_of("echo"))
        await wire.until("a1", "assign")

        said = session_pb2.NeedInput(lease=lease, **asked)
        await wire.send(Frame(agent_id="a1", need_input=said))
        [ended] = await here.scheduler.until("ended")
        [ack] = await wire.until("a1", "result_ack")

        assert (ended.failure.reason, ack.verdict) == (reason, REFUSED)
        assert not here.scheduler.of_kind("needs_input")


async def test_a_question_brings_what_was_used_before_it() -> None:
    async with room() as here:
        wire = here.wire()
        await wire.hello("a1")
        lease = here.scheduler.grant("t1", await here.scheduler.class_of("echo"))
        await wire.until("a1", "assign")

        used = task_pb2.Usage(input_tokens=3, cost=0.5)
        said = session_pb2.NeedInput(lease=lease, usage=used)
        await wire.send(Frame(agent_id="a1", need_input=said))
        [asked] = await here.scheduler.until("needs_input")

        assert asked.usage == used


BAD_HELLOS: list[tuple[str, dict[str, Any]]] = [
    ("hello.instance_id", {"instance_id": ""}),
    ("hello.name", {"name": "x\u202ey"}),
    ("hello.max_concurrency", {"max_concurrency": -1}),
    ("hello.max_concurrency", {"max_concurrency": 10**9}),
    ("hello.capabilities[0].name", {"capabilities": [agent_pb2.Capability(name="*")]}),
    (
        "hello.capabilities[0].proficiency",
        {"capabilities": [agent_pb2.Capability(name="x", proficiency=float("inf"))]},
    ),
    (
        "hello.capabilities",
        {"capabilities": [agent_pb2.Capability(name=f"c{n}") for n in range(100)]},
    ),
    ("hello.labels", {"labels": {f"k{number}": "v" for number in range(33)}}),
    (
        "hello.cost_hint.cost_per_task",
        {"cost_hint": agent_pb2.CostHint(cost_per_task=float("nan"))},
    ),
]


def with_leases(count: int) -> session_pb2.Hello:
    hello = session_pb2.Hello(instance_id="i1", max_concurrency=checks.concurrency_max)
    hello.capabilities.add(name="echo")
    for number in range(count):
        hello.in_flight.add(task_id=f"t{number}", lease_epoch=number + 1)
    return hello


def test_an_agent_at_its_limit_comes_back_with_as_many_unsettled_results() -> None:
    most = 2 * checks.concurrency_max

    assert len(checks.greeting("a1", with_leases(most)).in_flight) == most
    with pytest.raises(InvalidArgument) as refused:
        checks.greeting("a1", with_leases(most + 1))
    assert refused.value.violations[0].field == "hello.in_flight"


def test_the_sdk_sends_as_many_leases_at_once_as_are_taken() -> None:
    assert (leases.IN_FLIGHT_LEN_MAX, leases.RENEW_LEN_MAX) == (
        checks.in_flight_len_max,
        listener.frames_len_max,
    )


@pytest.mark.parametrize(("field", "wrong"), BAD_HELLOS)
async def test_a_wrong_hello_ends_the_stream_and_says_which_field(
    field: str, wrong: dict[str, Any]
) -> None:
    async with room() as here:
        wire = here.wire()
        said: dict[str, Any] = {"instance_id": "i1", **wrong}
        hello = session_pb2.Hello(**said)
        if "capabilities" not in wrong:
            hello.capabilities.add(name="echo")

        await wire.send(Frame(agent_id="a1", hello=hello))
        error = await wire.ended()

        assert (error.code, error.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
        assert error.violations[0].field == field


async def test_a_wrong_hello_among_other_agents_is_refused_alone() -> None:
    async with room() as here:
        wire = here.wire()
        await wire.hello("good")

        await wire.send(Frame(agent_id="bad", hello=session_pb2.Hello(instance_id="i1")))
        [refusal] = await wire.until("bad", "refusal")
        here.scheduler.grant("t1", await here.scheduler.class_of("echo"))

        assert refusal.reason == "INVALID_FIELD"
        await wire.until("good", "assign")


async def test_a_first_frame_that_is_not_hello_ends_the_stream() -> None:
    async with room() as here:
        wire = here.wire()

        await wire.send(Frame(agent_id="a1", heartbeat=session_pb2.Heartbeat()))
        error = await wire.ended()

        assert (error.code, error.reason) == ("FAILED_PRECONDITION", "HELLO_REQUIRED")


async def test_malformed_bytes_end_the_stream_with_invalid_argument() -> None:
    async with room() as here:
        call: Any = here.channel.stream_stream("/podium.v1.RoutingService/OpenSession")()
        await call.write(b"\xff\xff\xff\xff")

        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()

        error = from_rpc_error(raised.value)
        assert (error.code, error.reason) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST")


LEASE = session_pb2.LeaseRef(task_id="t9", lease_epoch=1)


def told(**said: Any) -> Frame:
    return Frame(progress=session_pb2.Progress(report_seq=1, **said))


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (Frame(), "INVALID_FIELD"),
        (Frame(hello=session_pb2.Hello(instance_id="a1-1")), "INVALID_FIELD"),
        (Frame(nack=session_pb2.Nack(lease=LEASE)), "INVALID_FIELD"),
        (Frame(nack=session_pb2.Nack(lease=LEASE, reason=99)), "INVALID_FIELD"),
        (Frame(result=session_pb2.Result(lease=LEASE)), "INVALID_FIELD"),
        (Frame(progress=session_pb2.Progress(fraction=0.5)), "INVALID_FIELD"),
        (Frame(progress=session_pb2.Progress(report_seq=-1)), "INVALID_FIELD"),
        (
            told(fraction=float("nan")),
            "INVALID_FIELD",
        ),
        (
            told(partial={"content_type": "a\0b"}),
            "INVALID_FIELD",
        ),
        (told(message="x" * 2_000), "INVALID_FIELD"),
        (
            told(checkpoint=b"x" * 70_000),
            "INVALID_FIELD",
        ),
        (
            told(usage=task_pb2.Usage(cost=-1.0)),
            "INVALID_FIELD",
        ),
        (Frame(credit=session_pb2.Credit(total=-1)), "INVALID_FIELD"),
        (Frame(renew=session_pb2.Renew(leases=[LEASE] * 1_001)), "BATCH_TOO_LARGE"),
    ],
)
async def test_a_refused_frame_is_told_and_the_session_goes_on(frame: Frame, reason: str) -> None:
    async with room() as here:
        wire = here.wire()
        await wire.hello("a1")

        frame.agent_id = "a1"
        await wire.send(frame)
        [refusal] = await wire.until("a1", "refusal")
        here.scheduler.grant("t1", await here.scheduler.class_of("echo"))

        assert refusal.reason == reason and not refusal.closing
        await wire.until("a1", "assign")
