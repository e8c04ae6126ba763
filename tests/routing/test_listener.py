from __future__ import annotations

import asyncio

import pytest

from podium.v1 import session_pb2
from services.kernel.auth import ANONYMOUS, Principal
from services.kernel.errors import InvalidArgument, ResourceExhausted
from services.routing.adapters.desk import RouterDesk
from services.routing.core import effects
from services.routing.core.session import twin_s
from services.routing.servicer.listener import Listener, blame
from tests.routing.desks import desk, sent

Frame = session_pb2.AgentFrame
BEAT = Frame(agent_id="a1", heartbeat=session_pb2.Heartbeat(load=1e308))


def hello(agent_id: str, capability: str = "echo") -> Frame:
    frame = Frame(agent_id=agent_id, hello=session_pb2.Hello(instance_id="i1"))
    frame.hello.capabilities.add(name=capability)
    return frame


async def test_a_calm_agent_is_never_slowed() -> None:
    room, clock = desk()
    listener = Listener(room, room.open_line().number, ANONYMOUS)
    listener.take([hello("a1")])

    for _ in range(100):
        assert listener.take([BEAT]) == 0.0
        await clock.advance(0.1)


GONE = session_pb2.LeaseRef(task_id="t9", lease_epoch=9)
NOT_ABOUT_WORK = {
    "heartbeat": BEAT,
    "drain": Frame(agent_id="a1", drain=session_pb2.AgentDrain()),
    "ack": Frame(agent_id="a1", ack=session_pb2.Ack(lease=GONE)),
    "nack": Frame(
        agent_id="a1", nack=session_pb2.Nack(lease=GONE, reason=session_pb2.Nack.REASON_BUSY)
    ),
    "progress": Frame(agent_id="a1", progress=session_pb2.Progress(lease=GONE, report_seq=1)),
}


@pytest.mark.parametrize("kind", NOT_ABOUT_WORK)
async def test_a_flood_of_what_is_not_about_work_is_slowed_and_then_ends_the_stream(
    kind: str,
) -> None:
    room, clock = desk()
    listener = Listener(room, room.open_line().number, ANONYMOUS)
    listener.take([hello("a1")])

    waits = []
    with pytest.raises(ResourceExhausted) as refused:
        for _ in range(1_000):
            waits.append(listener.take([NOT_ABOUT_WORK[kind]] * 50))
            await clock.advance(waits[-1])

    assert refused.value.reason == "FRAME_RATE"
    assert 4 < len(waits) < 100
    assert max(waits) > 0.5


async def test_of_several_agents_only_the_one_at_fault_is_out() -> None:
    room, _ = desk()
    line = room.open_line()
    listener = Listener(room, line.number, ANONYMOUS)
    listener.take([hello(f"a{number}") for number in range(1, 8)])
    wrong = session_pb2.Heartbeat(load=-1.0)
    # Three each of six are more than one may have, and nobody's fault alone.
    for number in range(2, 8):
        listener.take([Frame(agent_id=f"a{number}", heartbeat=wrong)] * 3)
    sessions = room.router.board.sessions
    assert all(sessions[f"a{number}"].stream is not None for number in range(1, 8))

    listener.take([Frame(agent_id="a2", heartbeat=wrong)] * 13)

    there = [agent_id for agent_id, session in sessions.items() if session.stream is not None]
    assert sorted(there) == [f"a{number}" for number in (1, *range(3, 8))]
    told = [each for each in room.router.board.effects if isinstance(each, effects.SendRefusal)]
    assert (told[-1].agent_id, told[-1].reason, told[-1].closing) == (
        "a2",
        "TOO_MANY_STRIKES",
        True,
    )


async def test_the_flood_of_one_agent_ends_its_session_and_not_the_stream_of_all() -> None:
    room, clock = desk()
    line = room.open_line()
    listener = Listener(room, line.number, ANONYMOUS)
    listener.take([hello("a1"), hello("a2")])
    sessions = room.router.board.sessions

    for _ in range(100):  # most of it comes when its session is over
        assert listener.take([BEAT] * 1_000) == 0.0
        await clock.advance(1.0)

    assert sessions["a1"].stream is None
    assert sessions["a2"].stream is not None
    line.close()
    frames = [frame for response in await sent(line) for frame in response.frames]
    told = [frame for frame in frames if frame.HasField("refusal")]
    assert {frame.agent_id for frame in told} == {"a1"}
    assert [frame.refusal.reason for frame in told] == ["FRAME_RATE"] * 16 + ["TOO_MANY_STRIKES"]
    last = told[-1].refusal
    assert (last.code, last.closing) == ("RESOURCE_EXHAUSTED", True)
    assert last.retry_after.ToMilliseconds() == 5_000


UNFIT = Frame(agent_id="bad", hello=session_pb2.Hello(instance_id="i1"))
"""Without a capability."""


def refusals(room: RouterDesk) -> list[tuple[str, str]]:
    told = [each for each in room.router.board.effects if isinstance(each, effects.SendRefusal)]
    return [(each.agent_id, each.reason) for each in told]


@pytest.mark.parametrize("frames", [[hello("good"), UNFIT], [UNFIT, hello("good")]])
async def test_a_wrong_hello_is_refused_alone_whichever_place_it_has_in_the_message(
    frames: list[Frame],
) -> None:
    room, _ = desk()
    listener = Listener(room, room.open_line().number, ANONYMOUS)

    listener.take(frames)

    assert refusals(room) == [("bad", "INVALID_FIELD")]
    assert list(room.router.board.sessions) == ["good"]


@pytest.mark.parametrize("frame", [UNFIT, Frame(agent_id="bad", heartbeat={})])
async def test_a_wrong_frame_does_not_end_the_stream_of_agents_that_wait_to_be_let_in(
    frame: Frame,
) -> None:
    room, _ = desk(hellos_per_s=10.0, hellos_burst=1.0)
    room.open_line()
    Listener(room, 1, ANONYMOUS).take([hello("first")])
    line = room.open_line()
    listener = Listener(room, line.number, ANONYMOUS)
    listener.take([hello("a1"), hello("a2")])
    stream = room.router.board.streams[line.number]
    assert (stream.agents, stream.waiting) == ({}, {"a1", "a2"})

    for _ in range(20):
        listener.take([frame])

    assert {agent_id for agent_id, _ in refusals(room)} == {"bad"}
    assert stream.waiting == {"a1", "a2"}


async def test_a_wrong_hello_alone_ends_the_stream_with_what_is_wrong() -> None:
    room, _ = desk()
    listener = Listener(room, room.open_line().number, ANONYMOUS)

    with pytest.raises(InvalidArgument) as refused:
        listener.take([UNFIT])

    assert refused.value.reason == "INVALID_FIELD"


async def test_credit_that_follows_assignments_is_about_work_and_no_other_is() -> None:
    room, _ = desk()
    listener = Listener(room, room.open_line().number, ANONYMOUS)
    listener.take([hello("a1")])
    session = room.router.board.sessions["a1"]

    def credit(total: int) -> Frame:
        return Frame(agent_id="a1", credit=session_pb2.Credit(total=total))

    for _ in range(1_000):  # as fast as tasks of no length come and go
        session.assigned_total += 1
        assert listener.take([credit(session.assigned_total + 1)]) == 0.0
    with pytest.raises(ResourceExhausted, match="50 frames a second"):
        for total in [7, 10**9] * 150:
            listener.take([credit(total)])


async def test_hellos_and_goodbyes_in_turn_are_a_flood_like_any_other() -> None:
    room, clock = desk()
    listener = Listener(room, room.open_line().number, ANONYMOUS)
    bye = Frame(agent_id="a1", goodbye=session_pb2.Goodbye())

    with pytest.raises(ResourceExhausted) as refused:
        for _ in range(200):
            await clock.advance(listener.take([hello("a1"), bye] * 100))

    assert refused.value.reason == "FRAME_RATE"


async def test_a_renewal_of_many_leases_that_there_cannot_be_is_one_fault() -> None:
    room, _ = desk()
    listener = Listener(room, room.open_line().number, ANONYMOUS)
    listener.take([hello("a1")])
    none = session_pb2.LeaseRef(task_id="t1", lease_epoch=-1)

    listener.take([Frame(agent_id="a1", renew=session_pb2.Renew(leases=[none] * 100 + [GONE]))])

    told = room.router.board.effects
    assert [each.reason for each in told if isinstance(each, effects.SendRefusal)] == [
        "INVALID_FIELD"
    ]
    [ack] = [each for each in told if isinstance(each, effects.SendRenewAck)]
    assert (ack.held, ack.lost) == ((), (("t9", 9),))


async def test_an_agent_that_has_its_stream_to_itself_loses_it() -> None:
    room, _ = desk()
    listener = Listener(room, room.open_line().number, ANONYMOUS)
    listener.take([hello("a1")])

    with pytest.raises(ResourceExhausted) as refused:
        listener.take([Frame(agent_id="a1", heartbeat=session_pb2.Heartbeat(load=-1.0))] * 16)

    assert refused.value.reason == "TOO_MANY_STRIKES"


async def test_many_agents_on_a_stream_may_say_more() -> None:
    room, _ = desk()
    listener = Listener(room, room.open_line().number, ANONYMOUS)
    listener.take([hello(f"a{number}") for number in range(100)])
    beats = [
        Frame(agent_id=f"a{number}", heartbeat=session_pb2.Heartbeat()) for number in range(100)
    ]

    assert [listener.take(beats) for _ in range(50)] == [0.0] * 50


HOST = Principal("host", "default", frozenset({"agent"}), frozenset({"echo"}))


@pytest.mark.parametrize(
    ("agent_id", "capability", "reason"),
    [
        ("host", "echo", ""),
        ("host-7", "echo", ""),
        ("hostile", "echo", "AGENT_NOT_YOURS"),
        ("other", "echo", "AGENT_NOT_YOURS"),
        ("host", "root", "CAPABILITY_NOT_GRANTED"),
    ],
)
async def test_a_caller_speaks_for_its_own_agents_with_what_it_was_granted(
    agent_id: str, capability: str, reason: str
) -> None:
    room, _ = desk()
    line = room.open_line()
    listener = Listener(room, line.number, HOST)

    listener.take([hello(agent_id, capability)])

    done = room.router.turn(room.now())
    refusals = [each.reason for each in done if isinstance(each, effects.SendRefusal)]
    assert refusals == ([reason] if reason else [])
    assert (agent_id in room.router.board.sessions) is not bool(reason)


async def test_only_a_bridge_may_say_that_an_agent_is_detached() -> None:
    room, _ = desk()
    listener = Listener(room, room.open_line().number, HOST)
    listener.take([hello("host")])

    listener.take([Frame(agent_id="host", detached=session_pb2.Detached())])

    done = room.router.turn(room.now())
    assert [e.reason for e in done if isinstance(e, effects.SendRefusal)] == ["ROLE_MISSING"]


@pytest.mark.parametrize(
    ("result", "refused", "kind"),
    [
        (session_pb2.Result(success={}), "", "SUCCEEDED"),
        (session_pb2.Result(failure={"reason": "X_Y", "retryable": True}), "", "FAILED"),
        (session_pb2.Result(failure={"reason": "BAD_INPUT"}), "", "CANCELED"),
        (session_pb2.Result(canceled={}), "", "CANCELED"),
        (session_pb2.Result(success={}), "RESULT_TOO_LARGE", "CANCELED"),
        (session_pb2.Result(success={}), "RESULT_INVALID", "FAILED"),
    ],
)
def test_an_agent_is_blamed_only_for_what_is_its_fault(
    result: session_pb2.Result, refused: str, kind: str
) -> None:
    assert blame(result, refused) == kind


async def test_who_speaks_on_after_its_session_was_taken_is_told_and_who_leaves_is_not() -> None:
    room, clock = desk()
    line = room.open_line()
    first = Listener(room, line.number, ANONYMOUS)
    second = Listener(room, room.open_line().number, ANONYMOUS)
    first.take([hello("a1"), hello("a2")])
    second.take([hello("a1"), hello("a2")])
    await clock.advance(twin_s)
    await asyncio.sleep(0)

    first.take([Frame(agent_id="a2", detached=session_pb2.Detached()), BEAT])
    await asyncio.sleep(0)

    told = [each for each in line.outbox.in_order if isinstance(each, effects.SendSuperseded)]
    assert [each.session.agent_id for each in told] == ["a1"]


async def test_ever_new_agents_that_leave_at_once_are_slowed_and_then_end_the_stream() -> None:
    room, clock = desk()
    listener = Listener(room, room.open_line().number, ANONYMOUS)
    ids = (f"a{number}" for number in range(1_000_000))
    waits: list[float] = []

    def brief(agent_id: str) -> list[Frame]:
        return [hello(agent_id), Frame(agent_id=agent_id, goodbye=session_pb2.Goodbye())]

    with pytest.raises(ResourceExhausted) as refused:
        for _ in range(100):
            waits.append(listener.take([each for _ in range(400) for each in brief(next(ids))]))
            await clock.advance(max(waits[-1], 0.1))

    assert refused.value.reason == "FRAME_RATE"
    assert sum(waits) > 5.0


async def test_a_host_whose_agents_all_come_and_all_leave_is_not_slowed() -> None:
    room, _ = desk()
    listener = Listener(room, room.open_line().number, ANONYMOUS)
    ids = [f"a{number}" for number in range(1_000)]

    assert listener.take([hello(each) for each in ids]) == 0.0
    leaves = [Frame(agent_id=each, goodbye=session_pb2.Goodbye()) for each in ids]
    assert listener.take(leaves) == 0.0
