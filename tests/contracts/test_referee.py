"""The referee lets right sessions pass and sees what is wrong with others."""

from __future__ import annotations

from typing import Any

import pytest

from podium.v1 import session_pb2
from podium.v1.session_pb2 import AgentFrame, LeaseRef, RouterFrame
from tests.contracts.referee import Referee, transitions

LEASE = LeaseRef(task_id="t1", lease_epoch=1)
HELLO: Any = {"instance_id": "i1"}
ABOUT = {"lease": LEASE}
REPORT = session_pb2.Progress(lease=LEASE, report_seq=1)
ONE: list[Any] = [AgentFrame(hello=HELLO), RouterFrame(ready={"resumed": True})]
TAKEN: list[Any] = [
    *ONE,
    RouterFrame(assign={"task_id": "t1", "lease_epoch": 1}),
    AgentFrame(ack=ABOUT),
]
RESULT = AgentFrame(result=session_pb2.Result(lease=LEASE, success={}))
SETTLED = RouterFrame(result_ack={"lease": LEASE})
AGAIN: list[Any] = [AgentFrame(hello={"in_flight": [LEASE]}), RouterFrame(ready={"resumed": True})]
TWO, NOTHING = AgentFrame(credit={"total": 2}), AgentFrame(credit={"total": 0})
BEAT = AgentFrame(heartbeat={})
CLOSED = RouterFrame(refusal={"reason": "PROBE_UNANSWERED", "closing": True})
RECALL = RouterFrame(recall={"leases": [LEASE]})


def judged(*streams: list[Any]) -> list[str]:
    return Referee().judge((number, frame) for number, each in enumerate(streams) for frame in each)


@pytest.mark.parametrize(
    "streams",
    [
        pytest.param([[*TAKEN, RESULT, SETTLED]], id="a-task"),
        pytest.param([TAKEN, [*AGAIN, RESULT, SETTLED]], id="over-two-streams"),
        pytest.param([[*TAKEN, RESULT], [*AGAIN, RESULT]], id="a-result-again"),
        pytest.param([[*TAKEN, RECALL, RESULT]], id="a-recall-not-heard-yet"),
        pytest.param([[*TAKEN, RESULT, SETTLED], ONE], id="settled-or-not-heard"),
        pytest.param([TAKEN[:3], ONE], id="an-assignment-that-never-came"),
        pytest.param([[*TAKEN, TWO], [*AGAIN, NOTHING]], id="credit-anew"),
        pytest.param([[*ONE, CLOSED, BEAT, *ONE]], id="closing-not-heard-yet"),
    ],
)
def test_right_sessions_pass(streams: list[list[Any]]) -> None:
    assert judged(*streams) == []


@pytest.mark.parametrize(
    ("streams", "fault"),
    [
        ([[AgentFrame(heartbeat={})]], "heartbeat in CONNECTING"),
        ([[AgentFrame(hello=HELLO), AgentFrame(heartbeat={})]], "heartbeat in INTRODUCED"),
        ([[AgentFrame(hello=HELLO), CLOSED, BEAT]], "heartbeat in CONNECTING"),
        ([[*ONE, AgentFrame(hello=HELLO)]], "hello in READY"),
        ([[*ONE, AgentFrame(goodbye={}), AgentFrame(heartbeat={})]], "heartbeat in CLOSED"),
        ([[*ONE, RESULT]], "result of t1 in none"),
        ([[*TAKEN, AgentFrame(ack=ABOUT)]], "ack of t1 in RUNNING"),
        ([[*TAKEN, RESULT, AgentFrame(progress=REPORT)]], "progress of t1 in ENDED"),
        ([TAKEN, ONE], "hello without the lease ('t1', 1)"),
        ([[*TAKEN, RESULT], ONE], "hello without the lease ('t1', 1)"),
        ([[*TAKEN, AgentFrame(progress=ABOUT)]], "report_seq that does not rise"),
        ([[*ONE, AgentFrame(probe_reply={"nonce": 5})]], "a reply to no probe"),
        (
            [[*ONE, AgentFrame(credit={"total": 1}), AgentFrame(credit={"total": 0})]],
            "credit that fell",
        ),
        (
            [
                [*TAKEN, AgentFrame(credit={"total": 2})],
                [*AGAIN, AgentFrame(credit={"total": 2})],
            ],
            "credit for more slots than there are",
        ),
        ([[*ONE, AgentFrame(drain={}), AgentFrame(drain={})]], "drain a second time on a stream"),
    ],
)
def test_wrong_ones_do_not(streams: list[list[Any]], fault: str) -> None:
    assert judged(*streams) == [fault]


def test_every_state_can_be_reached_and_left() -> None:
    moves = transitions()
    states = {state for state, _ in moves}

    assert states == {"none", "OFFERED", "RUNNING", "STOPPING", "ENDED"} == set(moves.values())
