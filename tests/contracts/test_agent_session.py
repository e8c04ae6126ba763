"""What every agent owes a router, whatever it is made of."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from podium.v1 import session_pb2
from podium.v1.session_pb2 import LeaseRef, LeaseVerdict, RouterFrame
from tests.contracts.session_agents import AGENT_ID, TYPE
from tests.contracts.session_script import BRIDGED, START_S, Script
from tests.support.waiting import eventually


async def test_hello_comes_first_and_says_who_it_is(script: Script) -> None:
    await script.settled()

    first = script.router.frames()[0]
    assert first.agent_id == AGENT_ID
    assert first.hello.instance_id
    assert [each.name for each in first.hello.capabilities] == [TYPE]
    assert first.hello.max_concurrency == 4
    assert not first.hello.in_flight
    assert script.router.frames()[0].WhichOneof("frame") == "hello"


async def test_a_hello_that_nobody_answers_is_said_again_on_another_stream(
    script: Script,
) -> None:
    script.router.welcoming = False
    await script.reconnected()
    if script.make not in BRIDGED:  # the bridge's stream is the bridge's: it stays
        await eventually(lambda: len(script.router.streams) >= 3, within_s=START_S)
    script.router.welcoming = True
    await script.reconnected()

    await script.settled()


async def test_credit_only_counts_up(script: Script) -> None:
    for _ in range(3):
        await script.settled()

    totals = [credit.total for credit in script.heard("credit")]
    assert totals == sorted(totals)


async def test_credit_counts_anew_after_each_ready_and_is_enough_for_another_task(
    script: Script,
) -> None:
    for _ in range(3):
        await script.settled()
    # An assignment that is lost with the stream: the router has counted it, the agent has not.
    script.router.end()
    script.assign("say nothing")
    await script.until("hello", 2)
    await eventually(lambda: script.router.streams[-1].agents)
    await script.settled()
    await script.settled()

    since = script.router.frames()
    hello = max(at for at, frame in enumerate(since) if frame.HasField("hello"))
    totals = [frame.credit.total for frame in since[hello:] if frame.HasField("credit")]
    # Two were received here, and four slots are all it has.
    assert totals == sorted(totals)
    assert all(0 < total <= 2 + 4 for total in totals)


async def test_an_assignment_is_taken_before_or_with_its_result(script: Script) -> None:
    lease = script.assign("say hello")
    result = (await script.until("result"))[0]

    kinds = [frame.WhichOneof("frame") for frame in script.router.frames()]
    # What has ended at once needs no ack.
    assert "ack" not in kinds[kinds.index("result") :]
    assert all(ack.lease == lease for ack in script.heard("ack")) and result.lease == lease
    assert result.success.data == b"say hello"


async def test_progress_is_numbered_and_lies_between_ack_and_result(script: Script) -> None:
    lease = script.assign("report")
    await script.until("result")

    kinds = [frame.WhichOneof("frame") for frame in script.router.frames()]
    about = [kind for kind in kinds if kind in ("ack", "progress", "result")]
    reports = script.heard("progress")
    # Reports that follow each other closely may be merged into the last of them.
    assert about in (["ack", "progress", "result"], ["ack", "progress", "progress", "result"])
    numbers = [report.report_seq for report in reports]
    assert numbers == sorted(set(numbers)) and numbers[0] >= 1
    assert all(report.lease == lease for report in reports)


async def test_a_failure_has_a_reason_and_says_that_no_retry_helps(script: Script) -> None:
    script.assign("fail")
    failure = (await script.until("result"))[0].failure

    assert (failure.reason, failure.retryable) == ("AS_TOLD", False)


async def test_an_assignment_that_comes_twice_begins_once(script: Script) -> None:
    lease = await script.taken("wait")
    script.repeat(lease, "wait")
    await script.settled()
    script.say(cancel=session_pb2.Cancel(lease=lease, reason="CANCELED"))
    results = await eventually(lambda: [r for r in script.heard("result") if r.lease == lease])
    await script.settled()

    # Its ack may be said again: the first may have gone down with a stream.
    assert 1 <= [ack.lease for ack in script.heard("ack")].count(lease) <= 2
    assert all(result.HasField("canceled") for result in results)


async def test_a_lease_that_a_renewal_has_lost_is_given_up(script: Script) -> None:
    lease = await script.taken("wait")
    script.say(renew_ack=session_pb2.RenewAck(lost=[lease]))
    await script.settled()

    assert lease not in (await script.reconnected()).in_flight
    await eventually(lambda: script.router.streams[-1].agents)
    await script.settled()
    assert lease not in [result.lease for result in script.heard("result")]


async def test_a_result_is_kept_and_repeated_until_it_is_settled(script: Script) -> None:
    script.router.acking = False
    lease = script.assign("say it")
    await script.until("result")

    hello = await script.reconnected()
    await script.until("result", 2)
    script.router.acking = True
    await script.reconnected()
    await script.until("result", 3)
    ack = session_pb2.ResultAck.VERDICT_FENCED  # whatever the verdict, it is settled
    script.say(result_ack=session_pb2.ResultAck(lease=lease, verdict=ack))
    await script.settled()
    last = await script.reconnected()

    assert list(hello.in_flight) == [lease]
    assert {result.success.data for result in script.heard("result")} >= {b"say it"}
    assert lease not in last.in_flight


async def test_cancel_is_answered_by_a_canceled_result(script: Script) -> None:
    lease = await script.taken("wait")
    script.say(cancel=session_pb2.Cancel(lease=lease, reason="CANCELED"))
    result = (await script.until("result"))[0]

    assert (result.lease, result.WhichOneof("outcome")) == (lease, "canceled")


async def test_a_lease_that_a_cancel_calls_lost_has_no_success(script: Script) -> None:
    lease = await script.taken("hold")
    script.say(cancel=session_pb2.Cancel(lease=lease, reason="LEASE_LOST"))
    await script.taken("hold")
    await script.settled()

    answers = [each for each in script.heard("result") if each.lease == lease]
    assert {each.WhichOneof("outcome") for each in answers} <= {"canceled"}


async def test_a_reconnect_brings_everything_that_is_in_work(script: Script) -> None:
    leases = [await script.taken("wait"), await script.taken("wait")]
    hello = await script.reconnected()

    def key(lease: LeaseRef) -> str:
        return lease.task_id

    assert sorted(hello.in_flight, key=key) == leases
    assert hello.instance_id == script.heard("hello")[0].instance_id
    assert hello.resume_token == "token-1"


@pytest.mark.parametrize("verdict", ["VERDICT_LOST", "VERDICT_CANCEL"])
async def test_what_is_not_kept_over_a_reconnect_has_no_success(
    script: Script, verdict: str
) -> None:
    lease = await script.taken("wait")
    script.router.verdict = LeaseVerdict.Verdict.Value(verdict)
    await script.reconnected()
    await eventually(lambda: script.router.streams[-1].agents)
    script.router.verdict = LeaseVerdict.VERDICT_KEEP
    await script.settled()

    # A canceled one may be answered as Cancel is; a lost one is not spoken of any more.
    answers = [each for each in script.heard("result") if each.lease == lease]
    allowed = {"canceled"} if verdict == "VERDICT_CANCEL" else set()
    assert {each.WhichOneof("outcome") for each in answers} <= allowed

    other = await script.taken("wait")
    # It is in work no more.
    await eventually(
        lambda: any(
            other in renew.leases and lease not in renew.leases for renew in script.heard("renew")
        )
    )
    script.say(cancel=session_pb2.Cancel(lease=other, reason="CANCELED"))


async def test_a_probe_is_answered_with_its_number(script: Script) -> None:
    script.say(probe=session_pb2.Probe(nonce=77))

    assert (await script.until("probe_reply"))[0].nonce == 77


async def test_a_recalled_assignment_is_forgotten(script: Script) -> None:
    lease = await script.taken("wait")
    script.say(recall=session_pb2.Recall(leases=[lease]))
    await script.settled()

    assert lease not in (await script.reconnected()).in_flight


async def test_a_session_that_is_closed_begins_again_with_its_leases(script: Script) -> None:
    lease = await script.taken("wait")
    refusal = session_pb2.Refusal(reason="PROBE_UNANSWERED", message="no answer", closing=True)
    script.say(refusal=refusal)

    hello = (await script.until("hello", 2))[1]
    assert list(hello.in_flight) == [lease]


async def test_a_refused_frame_does_not_end_the_session(script: Script) -> None:
    script.say(refusal=session_pb2.Refusal(reason="INVALID_FIELD", message="no good"))
    await script.settled()

    assert len(script.heard("hello")) == 1


async def test_a_large_result_costs_the_attempt_and_not_the_session(script: Script) -> None:
    script.assign("large")
    await script.until("result")
    await script.settled()

    assert len(script.heard("hello")) == 1


async def test_a_router_that_drains_is_left_with_the_leases(script: Script) -> None:
    lease = await script.taken("wait")
    script.router.say(RouterFrame(drain=session_pb2.RouterDrain()))
    await asyncio.sleep(0.3)
    script.router.end(0)

    hello = (await script.until("hello", 2))[1]
    assert list(hello.in_flight) == [lease]
    await eventually(lambda: script.router.streams[-1].agents)
    script.say(cancel=session_pb2.Cancel(lease=lease, reason="CANCELED"))
    assert (await script.until("result"))[0].WhichOneof("outcome") == "canceled"


async def test_an_agent_that_leaves_drains_finishes_and_says_goodbye(script: Script) -> None:
    lease = await script.taken("wait")
    script.agent.stop()
    await script.until("drain")
    assert not script.agent.ended
    script.say(cancel=session_pb2.Cancel(lease=lease, reason="CANCELED"))
    await script.until("goodbye")
    await eventually(lambda: script.agent.ended)

    kinds = [frame.WhichOneof("frame") for frame in script.router.frames()]
    assert kinds.index("drain") < kinds.index("result") < kinds.index("goodbye")
    assert "hello" not in kinds[kinds.index("drain") :]


async def test_an_agent_that_is_told_to_leave_before_ready_drains_after_it(script: Script) -> None:
    lease = await script.taken("wait")
    script.router.welcoming = False
    await script.reconnected()
    script.agent.stop()
    await script.unanswered()
    script.router.welcoming = True
    await script.reconnected()
    await script.until("drain")
    assert not script.agent.ended
    script.say(cancel=session_pb2.Cancel(lease=lease, reason="CANCELED"))
    await script.until("goodbye")
    await eventually(lambda: script.agent.ended)

    # The referee has seen that neither came before Ready.
    kinds = [frame.WhichOneof("frame") for frame in script.router.frames()]
    assert kinds.index("drain") < kinds.index("result") < kinds.index("goodbye")


async def test_an_agent_that_is_told_to_leave_before_ready_with_nothing_in_work_ends(
    script: Script,
) -> None:
    script.router.welcoming = False
    await script.reconnected()
    script.agent.stop()
    await script.unanswered()
    script.router.welcoming = True
    if not script.agent.ended:
        script.router.end()
    await eventually(lambda: script.agent.ended)

    # It may part without a word, or wait for Ready and say goodbye.
    assert not script.heard("ack")


async def test_an_older_instance_ends_and_does_not_come_back(script: Script) -> None:
    await script.taken("wait")
    script.say(superseded=session_pb2.Superseded(instance_id="newer"))
    await eventually(lambda: script.agent.ended)

    assert len(script.heard("hello")) == 1
    assert not script.heard("result")


async def test_a_task_of_another_type_is_declined_or_answered_and_not_left(
    script: Script,
) -> None:
    lease = script.assign("say so", "text.other")

    def answers() -> list[Any]:
        return [each for kind in ("nack", "result") for each in script.heard(kind)]

    answer = (await eventually(answers))[0]
    assert answer.lease == lease
    if isinstance(answer, session_pb2.Nack):
        assert answer.reason == session_pb2.Nack.REASON_INCAPABLE
        assert not script.heard("ack")
