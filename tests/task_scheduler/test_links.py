"""OpenDispatch, over the wire and in process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import grpc.aio
import pytest

from podium.v1 import session_pb2, task_pb2, task_scheduler_pb2
from podium.v1.task_pb2 import Task
from services.kernel.errors import FailedPrecondition, InvalidArgument, Unavailable
from services.kernel.instant import Instant
from services.task_scheduler.core.orders import Grant, Settled, Welcome
from services.task_scheduler.servicer import links
from tests.support.waiting import eventually
from tests.task_scheduler.serving import Report, Router, Served, lease, refusal, spec


def hello(router_id: str = "r1") -> Report:
    return Report(hello=task_scheduler_pb2.DispatchHello(router_id=router_id))


def ended(grant: Any, **outcome: Any) -> Report:
    return Report(
        ended=task_scheduler_pb2.AttemptEnded(lease=lease(grant), agent_id="a1", **outcome)
    )


async def drained(call: Any) -> None:
    while await asyncio.wait_for(call.read(), 10) is not grpc.aio.EOF:
        pass


async def test_a_router_is_welcomed_with_the_time_of_a_lease(served: Served) -> None:
    async with served.router() as router:
        assert router.welcome.lease_ttl.ToSeconds() == 30
        assert not router.welcome.verdicts


async def test_reports_and_orders_keep_their_order_in_mixed_messages(served: Served) -> None:
    async with served.router("work") as router:
        await served.submit(*[spec() for _ in range(3)])
        grants = [await router.grant() for _ in range(3)]
        reports = []
        for grant in grants:
            started = task_scheduler_pb2.AttemptStarted(lease=lease(grant), agent_id="a1")
            reports.append(Report(started=started))
            reports.append(ended(grant, success=task_pb2.Payload(data=b"ok")))
        await router.say(*reports)
        settled = [(await router.next("settled")).settled for _ in grants]

    assert [one.lease.task_id for one in settled] == [grant.task_id for grant in grants]
    assert {one.verdict for one in settled} == {1}


@pytest.mark.parametrize(
    ("outcome", "reason", "state"),
    [
        ({"failure": {"reason": "BAD", "message": "x"}}, "BAD", Task.STATE_FAILED),
        ({"failure": {"retryable": True}}, "FAILED", Task.STATE_RETRY_WAIT),
        ({"lost": {}}, "AGENT_LOST", Task.STATE_RETRY_WAIT),
        ({"canceled": {}}, "AGENT_CANCELED", Task.STATE_RETRY_WAIT),
        ({}, "AGENT_CANCELED", Task.STATE_RETRY_WAIT),
        ({"success": {"data": bytes(257 * 1024)}}, "RESULT_TOO_LARGE", Task.STATE_FAILED),
    ],
)
async def test_every_outcome_has_its_consequence(
    wired: Served, outcome: dict[str, Any], reason: str, state: int
) -> None:
    policy = task_pb2.RetryPolicy(jitter=0.0)
    policy.initial_backoff.FromSeconds(60)
    policy.max_backoff.FromSeconds(60)
    async with wired.router("work") as router:
        task_id = (await wired.submit(spec(retry_policy=policy)))[0]
        grant = await router.grant()
        usage = task_pb2.Usage(input_tokens=3, output_tokens=4, cost=0.5)
        await router.say(ended(grant, usage=usage, **outcome))
        await router.next("settled")
        task = await wired.get(task_id)

    assert (task.failure.reason, task.state) == (reason, state)
    assert task.usage == usage


async def test_progress_is_seen(served: Served) -> None:
    async with served.router("work") as router:
        task_id = (await served.submit(spec()))[0]
        grant = await router.grant()
        progressed = task_scheduler_pb2.AttemptProgressed(lease=lease(grant), agent_id="a1")
        progressed.progress.fraction = 7.0
        progressed.progress.message = "nearly"
        progressed.progress.report_seq = 1
        progressed.progress.usage.input_tokens = 5
        await router.say(Report(progressed=progressed))

        async def seen() -> bool:
            task = await served.get(task_id)
            return (task.progress_fraction, task.progress_message) == (1.0, "nearly")

        await eventually(seen)


async def test_a_handed_back_task_is_granted_again(served: Served) -> None:
    async with served.router("work") as router:
        await served.submit(spec())
        grant = await router.grant()
        back = task_scheduler_pb2.LeaseHandedBack(
            lease=lease(grant), reason="NACK_BUSY", agent_id="a1"
        )
        await router.say(Report(handed_back=back))
        again = await router.grant()

    assert (again.task_id, again.attempt) == (grant.task_id, 1)
    assert again.lease_epoch > grant.lease_epoch
    assert list(again.excluded_agent_ids) == ["a1"]


async def test_cancel_revokes_and_a_late_result_is_fenced(served: Served) -> None:
    async with served.router("work") as router:
        task_id = (await served.submit(spec()))[0]
        grant = await router.grant()
        await router.start(grant)
        cancel = task_scheduler_pb2.CancelTasksRequest(task_ids=[task_id])
        await served.stub.CancelTasks(cancel)
        revoke = (await router.next("revoke")).revoke
        settled = await router.complete(grant)

    assert (revoke.lease, revoke.reason) == (lease(grant), "CANCELED")
    assert settled.verdict == session_pb2.ResultAck.VERDICT_FENCED


async def test_a_router_that_comes_back_keeps_its_leases(served: Served) -> None:
    async with served.router("work") as router:
        await served.submit(spec())
        grant = await router.grant()
        await router.start(grant)
    dead = session_pb2.LeaseRef(task_id="00-none", lease_epoch=77)
    async with served.router("work", held=[lease(grant), dead]) as router:
        verdicts = [one.verdict for one in router.welcome.verdicts]
        settled = await router.complete(grant)

    assert verdicts == [1, 3]
    assert settled.verdict == 1


async def test_an_agent_moves_its_lease_to_another_router(served: Served) -> None:
    async with served.router("work") as router:
        await served.submit(spec())
        grant = await router.grant()
        await router.start(grant)
    async with served.router("work", router_id="r2") as router:
        claimed = task_scheduler_pb2.LeasesClaimed(leases=[lease(grant)], agent_id="a1")
        await router.say(Report(claimed=claimed))
        answer = (await router.next("verdicts")).verdicts
        settled = await router.complete(grant)

    assert (answer.agent_id, answer.verdicts[0].verdict) == ("a1", 1)
    assert settled.verdict == 1


async def test_renewing_what_is_over_is_answered(served: Served) -> None:
    dead = session_pb2.LeaseRef(task_id="00-none", lease_epoch=77)
    async with served.router("work") as router:
        await router.say(Report(renewed=task_scheduler_pb2.LeasesRenewed(leases=[dead])))
        answer = (await router.next("verdicts")).verdicts

    assert answer.verdicts[0].verdict == session_pb2.LeaseVerdict.VERDICT_LOST


async def test_a_newer_stream_of_a_router_ends_the_older(served: Served) -> None:
    async with served.router("work") as older, served.router("work") as newer:
        await drained(older.call)
        await served.submit(spec())
        assert await newer.grant()
        stats = await served.stub.GetQueueStats(task_scheduler_pb2.GetQueueStatsRequest())
        assert stats.router_count == 1


async def test_grants_for_a_stream_that_is_gone_do_not_reach_the_next_one() -> None:
    opened: list[str] = []
    dispatch = SimpleNamespace(
        open=lambda router_id, held, now: opened.append(router_id), close=lambda *_: None
    )
    desk: Any = SimpleNamespace(
        core=SimpleNamespace(dispatch=dispatch),
        now=lambda: Instant(0.0, 0),
        check=lambda: None,
        wake=lambda: None,
    )
    streams = links.Links(desk)

    async def said() -> AsyncIterator[Any]:
        yield task_scheduler_pb2.OpenDispatchRequest(reports=[hello()])
        await asyncio.Event().wait()

    older = streams.serve(said())
    reading = asyncio.create_task(anext(older, b""))
    await eventually(lambda: opened == ["r1"])
    newer = streams.serve(said())
    sent = asyncio.create_task(anext(newer))
    await eventually(lambda: opened == ["r1", "r1"])
    # One commit was under way all the time: it holds what the core ordered for both.
    grant: Any = Grant.__new__(Grant, *[None] * len(Grant._fields))
    settled: Any = Settled.__new__(Settled, *[None] * len(Settled._fields))
    welcome = Welcome((), 30.0)
    orders = [welcome, grant, settled, welcome, grant]
    commit: Any = SimpleNamespace(
        orders=[("r1", order) for order in orders], encoded=[b"w1", b"g1", b"s1", b"w2", b"g2"]
    )
    streams.deliver(commit)

    assert await asyncio.wait_for(sent, 10) == b"s1w2g2"
    assert await asyncio.wait_for(reading, 10) == b""
    await newer.aclose()
    await older.aclose()


async def test_reports_of_a_kind_to_come_are_skipped(served: Served) -> None:
    async with served.router("work") as router:
        await router.say(Report())
        await served.submit(spec())
        assert await router.grant()


@pytest.mark.parametrize(
    ("reports", "kind", "reason"),
    [
        (
            [Report(credit=task_scheduler_pb2.ClassCredit(class_id=1))],
            FailedPrecondition,
            "HELLO_REQUIRED",
        ),
        ([hello(), hello()], FailedPrecondition, "HELLO_REPEATED"),
        ([hello("Not An Id")], InvalidArgument, "INVALID_FIELD"),
        ([hello("")], InvalidArgument, "INVALID_FIELD"),
        (
            [hello(), Report(credit=task_scheduler_pb2.ClassCredit(capabilities=["*"]))],
            InvalidArgument,
            "INVALID_FIELD",
        ),
        (
            [hello(), Report(credit=task_scheduler_pb2.ClassCredit(agent_count=-1))],
            InvalidArgument,
            "INVALID_FIELD",
        ),
    ],
)
async def test_a_router_that_breaks_the_rules_is_told_which(
    served: Served, reports: list[Any], kind: type, reason: str
) -> None:
    router = Router(served.stub.OpenDispatch())
    await router.say(*reports)

    error = await refusal(drained(router.call))

    assert (type(error), error.reason) == (kind, reason)


async def test_large_grants_are_spread_over_messages(served: Served) -> None:
    payload = task_pb2.Payload(data=bytes(250_000))
    for _ in range(2):
        await served.submit(*[spec(payload=payload) for _ in range(10)])
    async with served.router("work") as router:
        grants = [await router.grant() for _ in range(20)]

    assert len({grant.task_id for grant in grants}) == 20


async def test_a_router_that_does_not_read_is_cut_off(
    wired: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "QUEUE_LEN_MAX", 20)
    async with wired.router("work") as router:
        payload = task_pb2.Payload(data=bytes(250_000))
        for _ in range(10):
            await wired.submit(*[spec(payload=payload) for _ in range(12)])
        error = await refusal(drained(router.call))

    assert error.reason == "ROUTER_TOO_SLOW"


async def test_a_router_is_noted_as_gone_though_its_call_is_cancelled_twice() -> None:
    closed: list[str] = []
    core = SimpleNamespace(
        dispatch=SimpleNamespace(
            open=lambda *_: None, close=lambda router_id, now: closed.append(router_id)
        )
    )
    desk: Any = SimpleNamespace(core=core, now=lambda: None, check=lambda: None, wake=lambda: None)
    gone = asyncio.Event()

    async def reports() -> AsyncIterator[task_scheduler_pb2.OpenDispatchRequest]:
        yield task_scheduler_pb2.OpenDispatchRequest(reports=[hello()])
        await gone.wait()

    async def call() -> None:
        async for _ in links.Links(desk).serve(reports()):
            pass

    serving = asyncio.create_task(call())
    await asyncio.sleep(0.01)
    # The reader sees the end of the stream, and then the transport cancels the call as well, at
    # whatever step of the clean-up it is.
    gone.set()
    while not serving.done():
        await asyncio.sleep(0)
        serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)

    assert closed == ["r1"]


async def test_routers_are_sent_away_when_the_process_stops(served: Served) -> None:
    async with served.router("work") as router:
        await served.assembled.drain()
        error = await refusal(drained(router.call))

    assert (type(error), error.reason) == (Unavailable, "DRAINING")


NONE = session_pb2.LeaseRef(task_id="00-none", lease_epoch=-100_000)
IMPOSSIBLE = {
    "hello": Report(hello=task_scheduler_pb2.DispatchHello(router_id="r1", held=[NONE])),
    "started": Report(started=task_scheduler_pb2.AttemptStarted(lease=NONE, agent_id="a1")),
    "renewed": Report(renewed=task_scheduler_pb2.LeasesRenewed(leases=[NONE])),
    "progressed": Report(
        progressed=task_scheduler_pb2.AttemptProgressed(lease=NONE, agent_id="a1")
    ),
    "needs_input": Report(
        needs_input=task_scheduler_pb2.AttemptNeedsInput(lease=NONE, agent_id="a1")
    ),
    "handed_back": Report(handed_back=task_scheduler_pb2.LeaseHandedBack(lease=NONE)),
    "ended": Report(
        ended=task_scheduler_pb2.AttemptEnded(
            lease=NONE, agent_id="a1", success=task_pb2.Payload(data=b"ok")
        )
    ),
    "claimed": Report(claimed=task_scheduler_pb2.LeasesClaimed(agent_id="a1", leases=[NONE])),
}


@pytest.mark.parametrize("kind", IMPOSSIBLE)
async def test_a_report_of_a_lease_that_there_cannot_be_ends_the_stream_and_nothing_else(
    served: Served, kind: str
) -> None:
    async with served.router("work") as router:
        await router.say(IMPOSSIBLE[kind])
        error = await refusal(drained(router.call))
    assert (error.code, error.reason) == (
        ("FAILED_PRECONDITION", "HELLO_REPEATED")
        if kind == "hello"
        else ("INVALID_ARGUMENT", "INVALID_FIELD")
    )

    async with served.router("work", router_id="r2") as router:
        await served.run(router)


async def test_usage_without_bounds_is_told_within_them(served: Served) -> None:
    most = task_pb2.Usage(input_tokens=(1 << 63) - 1, output_tokens=-1, cost=1e308)
    retried = task_pb2.RetryPolicy(max_retries=1, jitter=0.0)
    retried.initial_backoff.FromMilliseconds(1)
    async with served.router("work") as router:
        [task_id] = await served.submit(spec(retry_policy=retried))
        failure = task_pb2.Failure(reason="BROKEN", retryable=True)
        await router.say(ended(await router.grant(), failure=failure, usage=most))
        success = task_pb2.Payload(data=b"ok")
        await router.say(ended(await router.grant(), success=success, usage=most))
        await router.next("settled")
        await router.next("settled")

    usage = (await served.get(task_id)).usage
    assert (usage.input_tokens, usage.output_tokens) == ((1 << 53) - 1, 0)
    listed = await served.stub.ListTasks(task_scheduler_pb2.ListTasksRequest())
    assert [task.task_id for task in listed.tasks] == [task_id]
