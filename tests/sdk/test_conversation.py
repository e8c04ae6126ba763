from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from podium.sdk.conversation import Conversation
from podium.sdk.errors import InvalidArgument
from podium.sdk.identity import Identity
from podium.sdk.leases import IN_FLIGHT_LEN_MAX
from podium.v1 import agent_pb2, session_pb2, task_pb2
from podium.v1.session_pb2 import AgentFrame, LeaseRef, LeaseVerdict, RouterFrame

KEY = ("t1", 1)
LEASE = LeaseRef(task_id="t1", lease_epoch=1)


@pytest.fixture
def talk() -> Conversation:
    """One agent that holds one lease."""
    made = Conversation([Identity("a1", [agent_pb2.Capability(name="work")])])
    assert hear(made, assign=session_pb2.Assign(task_id="t1", lease_epoch=1)) == ["assign"]
    return made


def hear(talk: Conversation, now_s: float = 0.0, **frame: Any) -> list[str | None]:
    """Returns the kinds of frames that are passed on for work."""
    received = talk.receive([RouterFrame(agent_id="a1", **frame)], now_s)
    return [each.WhichOneof("frame") for each in received.work]


def say(talk: Conversation, kind: str, *, brief: bool = False, **frame: Any) -> int:
    """Returns how many frames go out."""
    items = [(kind, KEY, AgentFrame(agent_id="a1", **frame))]
    return len(talk.say(items, 0.0, brief=brief))


def result() -> dict[str, Any]:
    return {"result": session_pb2.Result(lease=LEASE, success=task_pb2.Payload())}


def test_the_same_assignment_twice_is_taken_once(talk: Conversation) -> None:
    assert hear(talk, assign=session_pb2.Assign(task_id="t1", lease_epoch=1)) == []
    assert hear(talk, assign=session_pb2.Assign(task_id="t1", lease_epoch=2)) == ["assign"]


def test_an_assignment_that_comes_again_gets_the_answer_it_had(talk: Conversation) -> None:
    again = RouterFrame(agent_id="a1", assign=session_pb2.Assign(task_id="t1", lease_epoch=1))
    assert talk.receive([again], 0.0).replies == []
    say(talk, "ack", ack=session_pb2.Ack(lease=LEASE))
    [acked] = talk.receive([again], 0.0).replies
    say(talk, "result", **result())
    [ended] = talk.receive([again], 0.0).replies

    assert (acked.ack.lease, ended.result.lease) == (LEASE, LEASE)


def test_nothing_is_said_about_a_lease_that_is_over(talk: Conversation) -> None:
    ack = session_pb2.ResultAck(lease=LEASE, verdict=session_pb2.ResultAck.VERDICT_FENCED)
    hear(talk, result_ack=ack)

    assert say(talk, "progress", progress=session_pb2.Progress(lease=LEASE)) == 0
    assert say(talk, "result", **result()) == 0
    assert talk.verdict_counts[session_pb2.ResultAck.VERDICT_FENCED] == 1


def test_progress_gives_way_when_the_router_does_not_read(talk: Conversation) -> None:
    assert say(talk, "progress", progress=session_pb2.Progress(lease=LEASE), brief=True) == 0
    assert say(talk, "ack", ack=session_pb2.Ack(lease=LEASE), brief=True) == 1


def test_a_declined_assignment_is_forgotten(talk: Conversation) -> None:
    assert say(talk, "nack", nack=session_pb2.Nack(lease=LEASE)) == 1
    assert not talk.leases


def test_a_canceled_lease_waits_for_its_answer_without_being_renewed(talk: Conversation) -> None:
    assert hear(talk, cancel=session_pb2.Cancel(lease=LEASE, reason="CANCELED")) == ["cancel"]

    assert talk.due(1_000.0, 1.0)[0].WhichOneof("frame") == "heartbeat"
    assert say(talk, "result", **result()) == 1


@pytest.mark.parametrize(
    "frame",
    [
        {"cancel": session_pb2.Cancel(lease=LEASE, reason="LEASE_LOST")},
        {"renew_ack": session_pb2.RenewAck(lost=[LEASE])},
        {"recall": session_pb2.Recall(leases=[LEASE])},
        {"refusal": session_pb2.Refusal(reason="STALE_LEASE", task_id="t1")},
        {"refusal": session_pb2.Refusal(reason="LEASE_NOT_YOURS", task_id="t1")},
    ],
    ids=lambda frame: next(iter(frame)),
)
def test_a_lost_lease_stops_the_work_and_is_forgotten(
    talk: Conversation, frame: dict[str, Any]
) -> None:
    assert hear(talk, **frame) == ["cancel"]
    assert not talk.leases


def lost(talk: Conversation, now_s: float) -> str:
    """Loses the lease by a refusal and returns what the handler is told."""
    refusal = session_pb2.Refusal(reason="STALE_LEASE", task_id="t1")
    [told] = talk.receive([RouterFrame(agent_id="a1", refusal=refusal)], now_s).work
    return told.cancel.reason


def test_a_lease_that_was_lost_for_want_of_renewals_is_told_so(talk: Conversation) -> None:
    ready = session_pb2.Ready(lease_ttl=Duration(seconds=30), renew_interval=Duration(seconds=10))
    keep = session_pb2.LeaseVerdict.VERDICT_KEEP
    ready.verdicts.add(lease=LEASE, verdict=keep)
    hear(talk, 5.0, ready=ready)
    talk.due(15.0, 1.0)
    hear(talk, 15.1, renew_ack=session_pb2.RenewAck(held=[LEASE]))
    assert lost(talk, 44.9) == "LEASE_LOST"

    hear(talk, 50.0, assign=session_pb2.Assign(task_id="t1", lease_epoch=1))
    talk.due(60.0, 1.0)
    talk.due(70.0, 1.0)
    # It stood still meanwhile; the answer was to the first.
    hear(talk, 90.0, renew_ack=session_pb2.RenewAck(held=[LEASE]))
    assert lost(talk, 90.0) == "LEASE_EXPIRED"

    hear(talk, 100.0, assign=session_pb2.Assign(task_id="t1", lease_epoch=1))
    ready.verdicts[0].verdict = session_pb2.LeaseVerdict.VERDICT_CANCEL
    [told] = talk.receive([RouterFrame(agent_id="a1", ready=ready)], 131.0).work
    assert told.cancel.reason == "LEASE_EXPIRED"


def test_another_refusal_costs_no_lease(talk: Conversation) -> None:
    refusal = session_pb2.Refusal(reason="INVALID_FIELD", task_id="t1", message="too long")

    assert hear(talk, refusal=refusal) == []
    assert KEY in talk.leases


def test_an_agent_whose_session_was_closed_says_nothing_until_ready_and_loses_nothing(
    talk: Conversation,
) -> None:
    closing = session_pb2.Refusal(reason="PROBE_UNANSWERED", message="no", closing=True)
    received = talk.receive([RouterFrame(agent_id="a1", refusal=closing)], 0.0)

    assert (received.closed, received.replies, received.turned_away) == (("a1",), [], False)
    assert say(talk, "result", **result()) == 0
    assert talk.due(1_000.0, 1.0) == [] == talk.drains() == talk.goodbyes()
    assert list(talk.hello("a1").hello.in_flight) == [LEASE]

    kept = session_pb2.LeaseVerdict(lease=LEASE, verdict=session_pb2.LeaseVerdict.VERDICT_KEEP)
    ready = RouterFrame(agent_id="a1", ready=session_pb2.Ready(verdicts=[kept]))
    replies = talk.receive([ready], 0.0).replies
    assert [frame.WhichOneof("frame") for frame in replies] == ["result"]
    assert len(talk.goodbyes()) == 1


def test_a_router_that_takes_no_more_agents_is_told_from_one_that_closes_a_session(
    talk: Conversation,
) -> None:
    closing = session_pb2.Refusal(reason="DRAINING", message="no more", closing=True)

    assert talk.receive([RouterFrame(agent_id="a1", refusal=closing)], 0.0).turned_away


def test_leases_are_renewed_when_they_are_old_enough(talk: Conversation) -> None:
    ready = session_pb2.Ready()
    ready.renew_interval.FromSeconds(10)
    ready.heartbeat_interval.FromSeconds(100)
    hear(talk, ready=ready)

    assert talk.due(8.9, 1.0) == []
    assert [list(frame.renew.leases) for frame in talk.due(9.0, 1.0)] == [[LEASE]]
    assert talk.due(9.5, 1.0) == []


@pytest.mark.parametrize("how", ["renewal", "next stream"])
def test_what_the_work_asks_about_is_answered_once(talk: Conversation, how: str) -> None:
    other = LeaseRef(task_id="t2", lease_epoch=2)
    hear(talk, assign=session_pb2.Assign(task_id="t2", lease_epoch=2))
    asked = [("ask", ("t1", 1)), ("ask", ("t2", 2)), ("ask", ("lost", 3))]
    frames = [(kind, key, AgentFrame(agent_id="a1")) for kind, key in asked]
    [question] = talk.say(frames, 0.0, brief=False)
    assert list(question.renew.leases) == [LEASE, other]

    verdict = LeaseVerdict(lease=LEASE, verdict=LeaseVerdict.VERDICT_KEEP)
    answers: dict[str, dict[str, Any]] = {
        "renewal": {"renew_ack": session_pb2.RenewAck(held=[LEASE])},
        "next stream": {"ready": session_pb2.Ready(verdicts=[verdict])},
    }
    answer = RouterFrame(agent_id="a1", **answers[how])
    assert [list(each.renew_ack.held) for each in talk.receive([answer], 0.0).work] == [[LEASE]]
    assert talk.receive([answer], 0.0).work == []


def test_results_that_hello_had_no_room_for_are_sent_once_the_session_is_ready() -> None:
    talk = Conversation([Identity("a1", [agent_pb2.Capability(name="work")])])
    for number in range(IN_FLIGHT_LEN_MAX + 1):
        key = (f"t{number}", 1)
        hear(talk, assign=session_pb2.Assign(task_id=key[0], lease_epoch=1))
        frame = AgentFrame(agent_id="a1", result=session_pb2.Result())
        frame.result.lease.task_id, frame.result.lease.lease_epoch = key
        talk.say([("result", key, frame)], 0.0, brief=False)

    [hello] = talk.hellos()
    received = talk.receive([RouterFrame(agent_id="a1", ready=session_pb2.Ready())], 0.0)

    assert len(hello.hello.in_flight) == IN_FLIGHT_LEN_MAX
    assert [frame.result.lease.task_id for frame in received.replies] == [f"t{IN_FLIGHT_LEN_MAX}"]


def test_a_heartbeat_is_sent_only_when_nothing_else_was_said(talk: Conversation) -> None:
    hear(talk, result_ack=session_pb2.ResultAck(lease=LEASE))
    hear(talk, now_s=100.0, ready=session_pb2.Ready())

    assert talk.due(113.9, 1.0) == []
    assert [frame.WhichOneof("frame") for frame in talk.due(114.0, 1.0)] == ["heartbeat"]
    assert talk.due(115.0, 1.0) == []


@pytest.mark.parametrize("sign", ["probe", "renewal"])
def test_an_answer_to_a_probe_and_a_renewal_are_signs_of_life(
    talk: Conversation, sign: str
) -> None:
    ready = session_pb2.Ready()
    ready.heartbeat_interval.FromSeconds(20)
    ready.renew_interval.FromSeconds(10)
    talk.receive([RouterFrame(agent_id="a1", ready=ready)], 100.0)
    if sign == "probe":
        [reply] = talk.receive(
            [RouterFrame(agent_id="a1", probe=session_pb2.Probe(nonce=7))], 115.0
        ).replies
        assert reply.probe_reply.nonce == 7
    else:
        assign = session_pb2.Assign(task_id="t1", lease_epoch=1)
        talk.receive([RouterFrame(agent_id="a1", assign=assign)], 105.0)
        assert talk.due(115.0, 1.0)[0].WhichOneof("frame") == "renew"

    assert not any(each.HasField("heartbeat") for each in talk.due(120.0, 1.0))


def test_a_drain_is_repeated_on_every_new_stream(talk: Conversation) -> None:
    talk.draining = "stopping"
    received = talk.receive([RouterFrame(agent_id="a1", ready=session_pb2.Ready())], 0.0)

    assert received.replies[0].drain.reason == "stopping"


def test_drain_undo_an_agent_that_drains_says_so_at_once_and_declines_what_comes(
    talk: Conversation,
) -> None:
    hear(talk, assign=session_pb2.Assign(task_id="t1", lease_epoch=1))
    talk.draining = "stopping"
    new = session_pb2.Assign(task_id="t2", lease_epoch=2)

    assert all(frame.hello.draining for frame in talk.hellos())
    frames = [RouterFrame(agent_id="a1", ready=session_pb2.Ready())]
    received = talk.receive([*frames, RouterFrame(agent_id="a1", assign=new)], 0.0)
    [declined] = [each.nack for each in received.replies if each.HasField("nack")]

    assert declined.reason == session_pb2.Nack.REASON_DRAINING
    assert (declined.lease.task_id, declined.lease.lease_epoch) == ("t2", 2)
    assert received.work == [] and ("t2", 2) not in talk.leases
    assert ("t1", 1) in talk.leases, "what it has it finishes"


def test_frames_of_a_later_version_are_passed_over(talk: Conversation) -> None:
    unknown = RouterFrame.FromString(b"\x0a\x02a1\x10\x05" + b"\xfa\x07\x02\x0a\x00")

    assert talk.receive([unknown], 0.0).work == []
    assert talk.hellos()[0].hello.last_seq == 5


def test_a_verdict_of_a_later_version_settles_its_lease_like_any_other(talk: Conversation) -> None:
    hear(talk, result_ack=session_pb2.ResultAck(lease=LEASE, verdict=99))  # type: ignore[arg-type]  # of another version

    assert not talk.leases
    assert talk.verdict_counts[99] == 1


def test_an_agent_whose_hello_is_refused_is_silent_until_a_router_takes_it(
    talk: Conversation,
) -> None:
    error = talk.shut_out("a1", InvalidArgument("INVALID_FIELD", "no capability"))

    assert talk.due(1_000.0, 1.0) == talk.drains() == talk.goodbyes() == []
    assert [frame.WhichOneof("frame") for frame in talk.hellos()] == ["hello"]
    assert error.reason == "INVALID_FIELD"
    hear(talk, ready=session_pb2.Ready(session_id="s1"))
    assert talk.due(2_000.0, 1.0) != []
