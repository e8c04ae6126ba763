"""RoutingService on the wire, between a scheduler that does as told and raw agents."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from podium.v1 import agent_pb2, routing_pb2, session_pb2, task_pb2
from services.kernel import limits
from services.kernel.rpc import from_rpc_error
from tests.routing.peers import ACCEPTED, FENCED, KEEP, LOST, room
from tests.support.waiting import eventually

Frame = session_pb2.AgentFrame
REFUSED = session_pb2.ResultAck.VERDICT_REFUSED


async def test_a_granted_task_goes_to_an_agent_and_its_result_to_the_scheduler() -> None:
    async with room() as here:
        wire = here.wire()
        ready = await wire.hello("agent-a")
        lease = here.scheduler.grant("task-1", await here.scheduler.class_of("echo"))

        [assign] = await wire.until("agent-a", "assign")
        await wire.ack("agent-a", lease)
        [started] = await here.scheduler.until("started")
        await wire.result("agent-a", lease, b"answer")
        [ended] = await here.scheduler.until("ended")
        [ack] = await wire.until("agent-a", "result_ack")

        assert ready.heartbeat_interval.seconds == 15
        assert (ready.lease_ttl.seconds, ready.renew_interval.seconds) == (30, 10)
        assert ready.frame_bytes_max == limits.message_bytes_max
        assert (assign.task_id, assign.lease_epoch) == ("task-1", lease.lease_epoch)
        assert assign.spec.payload.data == b"x"
        assert started.agent_id == "agent-a"
        assert started.decision.policy == "formula"
        assert list(started.decision.candidate_agent_ids) == ["agent-a"]
        assert list(started.decision.scores) == [125.0]
        assert ended.success.data == b"answer"
        assert ack.verdict == ACCEPTED


async def test_one_stream_carries_many_agents() -> None:
    async with room() as here:
        wire = here.wire()
        for number in range(10):
            await wire.hello(f"agent-{number}", max_concurrency=2)
        class_id = await here.scheduler.class_of("echo")
        leases = [here.scheduler.grant(f"task-{number}", class_id) for number in range(20)]

        await eventually(
            lambda: all(len(wire.of(f"agent-{number}", "assign")) == 2 for number in range(10))
        )
        frames = [f for f in wire.frames if f.WhichOneof("frame") == "assign"]
        for frame in frames:
            await wire.result(frame.agent_id, frame.assign)

        ended = await here.scheduler.until("ended", 20)
        assert {each.lease.task_id for each in ended} == {lease.task_id for lease in leases}


async def test_an_assignment_carries_all_the_agent_needs() -> None:
    async with room() as here:
        wire = here.wire()
        await wire.hello("a1")
        traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        here.scheduler.grant(
            "t1",
            await here.scheduler.class_of("echo"),
            attempt_timeout={"seconds": 60},
            traceparent=traceparent,
        )

        [assign] = await wire.until("a1", "assign")

        assert assign.attempt == 1
        assert assign.attempt_deadline.seconds > 0
        assert assign.traceparent[:35] == traceparent[:35], "the same trace"
        assert assign.traceparent != traceparent, "but another span"


async def test_a_reconnect_keeps_the_task_and_spends_no_attempt() -> None:
    async with room() as here:
        wire = here.wire()
        ready = await wire.hello("a1")
        lease = here.scheduler.grant("t1", await here.scheduler.class_of("echo"))
        await wire.until("a1", "assign")
        await wire.ack("a1", lease)
        await here.scheduler.until("started")

        await wire.drop()
        again = here.wire()
        resumed = await again.hello("a1", resume_token=ready.resume_token, in_flight=[lease])
        await again.result("a1", lease)
        [ended] = await here.scheduler.until("ended")

        assert resumed.resumed and resumed.verdicts[0].verdict == KEEP
        assert ended.HasField("success")
        assert here.scheduler.of_kind("handed_back") == []


async def test_an_agent_that_dies_loses_its_task_after_the_grace() -> None:
    async with room(detach_grace_s=0.2) as here:
        wire = here.wire()
        await wire.hello("a1")
        lease = here.scheduler.grant("t1", await here.scheduler.class_of("echo"))
        await wire.until("a1", "assign")
        await wire.ack("a1", lease)
        await here.scheduler.until("started")

        await wire.drop()
        [ended] = await here.scheduler.until("ended")

        assert ended.HasField("lost") and ended.agent_id == "a1"


async def test_leases_from_before_the_router_are_claimed_and_judged() -> None:
    async with room() as here:
        here.scheduler.claim_verdict = LOST
        wire = here.wire()
        foreign = session_pb2.LeaseRef(task_id="t1", lease_epoch=77)

        ready = await wire.hello("a1", in_flight=[foreign])

        [claimed] = here.scheduler.of_kind("claimed")
        assert claimed.agent_id == "a1" and claimed.leases[0].lease_epoch == 77
        assert [v.verdict for v in ready.verdicts] == [LOST]


async def test_a_scheduler_that_comes_back_hears_what_it_missed() -> None:
    async with room() as here:
        here.scheduler.settles = False
        wire = here.wire()
        await wire.hello("a1")
        class_id = await here.scheduler.class_of("echo")
        ended, kept = (here.scheduler.grant(f"t{number}", class_id) for number in range(2))
        await wire.until("a1", "assign")
        await wire.result("a1", ended)
        await here.scheduler.until("ended")
        await wire.until("a1", "assign", 2)
        await wire.ack("a1", kept)
        await here.scheduler.until("started", 2)

        here.scheduler.settles = True
        here.scheduler.break_off()
        await eventually(lambda: here.scheduler.streams == 2 and here.scheduler.connected)
        await here.scheduler.until("ended", 2)
        [ack] = await wire.until("a1", "result_ack")

        hello = here.scheduler.of_kind("hello")[1]
        assert [lease.task_id for lease in hello.held] == [kept.task_id]
        assert ack.lease.task_id == ended.task_id
        assert here.scheduler.of_kind("started")[-1].lease.task_id == kept.task_id


async def test_a_revoked_task_is_canceled_at_the_agent() -> None:
    async with room() as here:
        wire = here.wire()
        await wire.hello("a1")
        lease = here.scheduler.grant("t1", await here.scheduler.class_of("echo"))
        await wire.until("a1", "assign")
        await wire.ack("a1", lease)
        await here.scheduler.until("started")

        here.scheduler.revoke(lease, "CANCELED")
        [cancel] = await wire.until("a1", "cancel")

        assert cancel.reason == "CANCELED" and cancel.lease == lease
        assert cancel.grace.seconds == 10


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ({"success": {"data": b"x" * (limits.payload_bytes_max + 1)}}, "RESULT_TOO_LARGE"),
        ({"failure": {"reason": "not a reason"}}, "RESULT_INVALID"),
        ({"success": {}, "usage": {"cost": float("nan")}}, "RESULT_INVALID"),
        ({"success": {}, "usage": {"input_tokens": -1}}, "RESULT_INVALID"),
        ({"success": {}, "confidence": 2.0}, "RESULT_INVALID"),
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


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (Frame(), "INVALID_FIELD"),
        (Frame(hello=session_pb2.Hello(instance_id="a1-1")), "INVALID_FIELD"),
        (Frame(nack=session_pb2.Nack(lease=LEASE)), "INVALID_FIELD"),
        (Frame(nack=session_pb2.Nack(lease=LEASE, reason=99)), "INVALID_FIELD"),
        (Frame(result=session_pb2.Result(lease=LEASE)), "INVALID_FIELD"),
        (Frame(progress=session_pb2.Progress(fraction=float("nan"))), "INVALID_FIELD"),
        (Frame(progress=session_pb2.Progress(message="x" * 2_000)), "INVALID_FIELD"),
        (Frame(progress=session_pb2.Progress(checkpoint=b"x" * 70_000)), "INVALID_FIELD"),
        (
            Frame(progress=session_pb2.Progress(usage=task_pb2.Usage(cost=-1.0))),
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


async def test_an_agent_cannot_speak_about_the_task_of_another() -> None:
    async with room() as here:
        wire, other = here.wire(), here.wire()
        await wire.hello("a1")
        lease = here.scheduler.grant("t1", await here.scheduler.class_of("echo"))
        await wire.until("a1", "assign")
        await other.hello("thief", "other")

        await other.result("thief", lease)
        [refusal] = await other.until("thief", "refusal")

        assert (refusal.reason, refusal.task_id) == ("LEASE_NOT_YOURS", "t1")
        assert here.scheduler.of_kind("ended") == []


async def test_an_agent_that_strikes_too_often_is_shown_the_door() -> None:
    async with room() as here:
        wire = here.wire()
        await wire.hello("a1")
        for _ in range(16):
            await wire.send(Frame(agent_id="a1"))

        error = await wire.ended()

        assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_STRIKES")
        assert error.retry_after_s is not None


async def test_results_may_come_outside_a_stream() -> None:
    async with room(detach_grace_s=5.0) as here:
        wire = here.wire()
        await wire.hello("a1")
        lease = here.scheduler.grant("t1", await here.scheduler.class_of("echo"))
        await wire.until("a1", "assign")
        await wire.ack("a1", lease)
        await here.scheduler.until("started")
        await wire.drop()
        result = session_pb2.Result(lease=lease, success=task_pb2.Payload(data=b"late"))

        answer = await here.stub.ReportResult(
            routing_pb2.ReportResultRequest(agent_id="a1", result=result)
        )
        [ended] = here.scheduler.of_kind("ended")

        assert answer.verdict == ACCEPTED
        assert ended.success.data == b"late"


async def report_error(here: Any, **result: Any) -> Any:
    request = routing_pb2.ReportResultRequest(
        agent_id="a1", result=session_pb2.Result(lease=LEASE, **result)
    )
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await here.stub.ReportResult(request)
    return from_rpc_error(raised.value)


async def test_a_report_of_a_lease_that_is_over_is_stale() -> None:
    async with room() as here:
        here.scheduler.verdict = FENCED

        error = await report_error(here, success=task_pb2.Payload())

        assert (error.code, error.reason) == ("FAILED_PRECONDITION", "STALE_LEASE")


async def test_a_report_without_an_outcome_is_invalid() -> None:
    async with room() as here:
        error = await report_error(here)

        assert (error.code, error.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
        assert error.violations[0].field == "result.outcome"


async def test_a_report_that_cannot_be_passed_on_is_to_be_repeated() -> None:
    async with room() as here:
        here.scheduler.refuses = True
        here.scheduler.break_off()
        await eventually(lambda: here.routing.assembled.ready() != "")

        error = await report_error(here, success=task_pb2.Payload())

        assert (error.code, error.reason) == ("UNAVAILABLE", "SCHEDULER_UNREACHABLE")
        assert error.retry_after_s is not None


async def test_sessions_are_listed_page_by_page() -> None:
    async with room() as here:
        wire = here.wire()
        for number in range(5):
            await wire.hello(f"a{number}", max_concurrency=3)

        first = await here.stub.ListSessions(routing_pb2.ListSessionsRequest(page_size=3))
        second = await here.stub.ListSessions(
            routing_pb2.ListSessionsRequest(page_size=3, page_token=first.next_page_token)
        )

        sessions = [*first.sessions, *second.sessions]
        assert [session.agent_id for session in sessions] == [f"a{number}" for number in range(5)]
        assert all(s.attached and s.max_concurrency == 3 for s in sessions)
        assert second.next_page_token == ""


async def test_push_spiral_an_agent_that_does_not_read_gets_nothing_more_and_harms_nobody() -> None:
    async with room() as here:
        wire, other = here.wire(), here.wire()
        await wire.hello("stuck", "echo", max_concurrency=1_000)
        await other.hello("well", "echo")
        wire.reading.clear()
        payload = task_pb2.Payload(data=b"x" * 100_000)
        class_id = await here.scheduler.class_of("echo")
        for number in range(200):
            here.scheduler.grant(f"t{number}", class_id, payload=payload)

        [assign, *_] = await other.until("well", "assign")
        await other.result("well", assign)

        await here.scheduler.until("ended")


async def test_a_draining_router_asks_agents_to_move_and_ends() -> None:
    async with room(drain_s=1.0) as here:
        wire = here.wire()
        await wire.hello("a1")

        drained = asyncio.create_task(here.routing.drain())
        [drain] = await wire.until("", "drain")
        await drained

        assert drain.deadline.seconds > 0
        assert here.scheduler.of_kind("ended") == []
