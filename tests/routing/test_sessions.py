"""RoutingService on the wire, between a scheduler that does as told and raw agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import pytest

from podium.v1 import routing_pb2, session_pb2, task_pb2
from services.kernel import limits, names
from services.kernel.auth import ANONYMOUS, acting_as
from services.kernel.clock import ManualClock
from services.kernel.instant import Instant
from services.kernel.rpc import from_rpc_error
from services.kernel.spans import leg_id
from services.routing.servicer.sessions import RoutingServicer
from tests.routing.peers import ACCEPTED, KEEP, LOST, room
from tests.support.waiting import eventually

Frame = session_pb2.AgentFrame


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
        leg = leg_id(names.span_assign, assign.task_id, assign.lease_epoch)
        assert assign.traceparent == f"{traceparent[:36]}{leg}-01", "a span of the same trace"


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
        await here.scheduler.until("started")

        here.scheduler.settles = True
        here.scheduler.break_off()
        await eventually(lambda: here.scheduler.streams == 2 and here.scheduler.connected)
        await here.scheduler.until("ended", 2)
        [ack] = await wire.until("a1", "result_ack")

        hello = here.scheduler.of_kind("hello")[1]
        assert [lease.task_id for lease in hello.held] == [kept.task_id]
        assert ack.lease.task_id == ended.task_id
        assert here.scheduler.of_kind("started")[-1].lease.task_id == kept.task_id
        assert [one.decision.agent_id for one in here.scheduler.of_kind("ended")] == ["a1", "a1"]


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


LEASE = session_pb2.LeaseRef(task_id="t9", lease_epoch=1)


async def report_error(here: Any, **result: Any) -> Any:
    request = routing_pb2.ReportResultRequest(
        agent_id="a1", result=session_pb2.Result(lease=LEASE, **result)
    )
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await here.stub.ReportResult(request)
    return from_rpc_error(raised.value)


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        ("FENCED", ("FAILED_PRECONDITION", "STALE_LEASE")),
        ("CONFLICT", ("ALREADY_EXISTS", "RESULT_CONFLICT")),
        ("UNKNOWN", ("NOT_FOUND", "LEASE_NOT_FOUND")),
    ],
)
async def test_a_report_that_changes_nothing_is_refused(
    verdict: str, told: tuple[str, str]
) -> None:
    async with room() as here:
        here.scheduler.verdict = session_pb2.ResultAck.Verdict.Value(f"VERDICT_{verdict}")

        error = await report_error(here, success=task_pb2.Payload())

        assert (error.code, error.reason) == told
        assert error.metadata == {"task_id": "t9", "lease_epoch": "1"}


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

        lease = here.scheduler.grant("t1", await here.scheduler.class_of("echo"))
        await wire.until("a1", "assign")
        await wire.ack("a1", lease)
        await here.scheduler.until("started")

        drained = asyncio.create_task(here.routing.drain())
        [drain] = await wire.until("", "drain")
        late = here.wire()
        error = await late.ended()
        await drained

        assert drain.deadline.seconds > 0
        assert (error.code, error.reason) == ("UNAVAILABLE", "DRAINING")
        assert here.scheduler.of_kind("ended") == [], "the agent goes on elsewhere"


async def test_a_router_without_work_drains_at_once() -> None:
    async with room(drain_s=1_000.0) as here:
        wire = here.wire()
        await wire.hello("a1")

        await asyncio.wait_for(here.routing.drain(), 5)


async def test_a_stream_is_noted_as_gone_though_its_call_is_cancelled_twice() -> None:
    dropped: list[int] = []
    closed = asyncio.Event()

    async def send(write: object) -> None:
        await closed.wait()

    line = SimpleNamespace(number=7, send=send, close=closed.set)
    desk: Any = SimpleNamespace(
        router=SimpleNamespace(
            board=SimpleNamespace(draining=False, leases=None),
            admission=None,
            attendance=None,
            work=None,
        ),
        open_line=lambda: line,
        drop_line=dropped.append,
        now=lambda: Instant(0.0, 0),
    )
    gone = asyncio.Event()

    async def requests() -> AsyncIterator[Any]:
        await gone.wait()
        return
        yield

    async def call() -> None:
        context: Any = SimpleNamespace(write=None)
        await RoutingServicer(desk, ManualClock()).OpenSession(requests(), context)

    with acting_as(ANONYMOUS):
        serving = asyncio.create_task(call())
    await asyncio.sleep(0.01)
    # The reader sees the end of the stream, and then the transport cancels the call as well, at
    # whatever step of the clean-up it is.
    gone.set()
    while not serving.done():
        await asyncio.sleep(0)
        serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)

    assert dropped == [7]
