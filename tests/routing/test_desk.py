from __future__ import annotations

import asyncio

import pytest

from podium.v1 import routing_pb2, session_pb2, task_scheduler_pb2
from services.kernel.auth import ANONYMOUS
from services.kernel.clock import ManualClock
from services.kernel.coalesce import Outbox
from services.kernel.errors import ResourceExhausted
from services.routing.adapters import desk as desk_module
from services.routing.adapters import line as line_module
from services.routing.adapters.dispatch import Dispatch, channels_max
from services.routing.adapters.facts import Facts
from services.routing.adapters.reports import Reports
from services.routing.core.effects import Closed, Opened, Outcome, ToScheduler
from services.routing.servicer.listener import Listener
from tests.routing.desks import desk, sent
from tests.routing.floor import Floor
from tests.routing.test_listener import hello
from tests.support.waiting import eventually

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def grant(task_id: str, class_id: int) -> task_scheduler_pb2.DispatchOrder:
    order = task_scheduler_pb2.DispatchOrder()
    order.grant.task_id, order.grant.lease_epoch, order.grant.attempt = task_id, 5, 1
    order.grant.class_id = class_id
    order.grant.spec.type = "echo"
    order.grant.spec.traceparent = TRACE
    return order


async def test_what_comes_in_one_turn_of_the_loop_is_decided_once() -> None:
    room, _ = desk()
    listener = Listener(room, room.open_line().number, ANONYMOUS)
    turns = []
    decide = room.router.turn
    room.router.turn = lambda now: turns.append(now) or decide(now)  # type: ignore[method-assign,func-returns-value]  # counts

    for number in range(10):
        listener.take([hello(f"a{number}")])
    await asyncio.sleep(0)

    assert len(turns) == 1


async def test_when_an_agent_was_chosen_and_accepted_is_told_with_the_decision() -> None:
    room, clock = desk()
    outbox = Outbox[ToScheduler]()
    room.connect(0, outbox)
    room.router.orders.welcome((), (), clock.now())
    listener = Listener(room, room.open_line().number, ANONYMOUS)
    dispatch = Dispatch("nowhere", lambda address: None, room, Reports("router-1", clock))  # type: ignore[arg-type,return-value]  # never dialled
    link = await anext(dispatch.links())
    kind = room.router.board.fleet.class_of(["echo"])
    granted = room.now()

    link._follow(grant("t1", kind.class_id), (), granted)
    await clock.advance(0.25)
    listener.take([hello("a1")])
    await asyncio.sleep(0)
    sent = room.now()
    await clock.advance(0.5)
    lease = next(iter(room.router.board.leases))
    frame = session_pb2.AgentFrame(agent_id="a1")
    frame.ack.lease.task_id, frame.ack.lease.lease_epoch = lease.key
    listener.take([frame])
    await asyncio.sleep(0)

    reports = Reports("router-1", clock).request(await anext(outbox.batches())).reports
    [decision] = [r.started.decision for r in reports if r.HasField("started")]
    assert decision.assign_time.ToMilliseconds() == sent.wall_ms
    assert decision.route_duration.ToMilliseconds() == 250
    assert decision.accept_duration.ToMilliseconds() == 500


async def test_a_line_whose_reader_is_far_behind_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(line_module, "line_len_max", 10)
    room, _ = desk()
    line = room.open_line()
    listener = Listener(room, line.number, ANONYMOUS)
    listener.take([hello("a1")])

    for _ in range(20):
        listener.take([session_pb2.AgentFrame(agent_id="a1", renew=session_pb2.Renew())])
        await asyncio.sleep(0)

    with pytest.raises(ResourceExhausted) as refused:
        await sent(line)
    assert refused.value.reason == "STREAM_STALLED"


async def test_a_reader_that_is_behind_is_noticed_and_forgiven_within_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(line_module, "stalled_len", 2)
    room, clock = desk()
    line = room.open_line()
    stream = room.router.board.streams[line.number]
    room.tick()
    Listener(room, line.number, ANONYMOUS).take([hello("a1"), hello("a2")])
    await asyncio.sleep(0)

    await clock.advance(desk_module.stall_look_s)
    room.tick()
    assert stream.stalled_s is not None

    await anext(line.outbox.batches())
    await clock.advance(desk_module.stall_look_s)
    room.tick()
    assert stream.stalled_s is None


def test_facts_that_must_stay_in_order_are_in_different_messages() -> None:
    floor = Floor()
    session = floor.agent("a1")
    session.body = session_pb2.Hello(instance_id="i1")
    outcome = Outcome("a1", "t1", "echo", "FAILED", 1.5, 1_700_000_000_000)
    batch = [Opened(session), outcome, Closed("a1", False), Opened(session), session]

    requests = list(Facts("router-1", ManualClock()).requests(batch))

    listed = [(len(r.opened), len(r.closed), len(r.alive), len(r.outcomes)) for r in requests]
    assert listed == [(1, 0, 0, 1), (0, 1, 0, 0), (1, 0, 1, 0)]
    assert {request.router_id for request in requests} == {"router-1"}
    assert requests[0].outcomes[0].run_duration.ToMilliseconds() == 1_500


async def test_bytes_that_the_transport_took_make_room_for_more() -> None:
    room, clock = desk()
    room.dispatch = Outbox[ToScheduler]()
    room.router.orders.welcome((), (), clock.now())
    line = room.open_line()
    listener = Listener(room, line.number, ANONYMOUS)
    frame = hello("a1")
    frame.hello.max_concurrency = 100
    listener.take([frame])
    kind = room.router.board.fleet.class_of(["echo"])
    dispatch = Dispatch("nowhere", lambda address: None, room, Reports("router-1", clock))  # type: ignore[arg-type,return-value]  # never dialled
    link = await anext(dispatch.links())
    stream = room.router.board.streams[line.number]

    for number in range(8):
        order = grant(f"t{number}", kind.class_id)
        order.grant.lease_epoch = number + 1
        order.grant.spec.payload.data = bytes(256 * 1024)
        link._follow(order, (), room.now())
    room.touch()
    await asyncio.sleep(0)
    assert stream.full and stream.queued_bytes == 4 * 256 * 1024
    assigned = []

    async def write(response: routing_pb2.OpenSessionResponse) -> None:
        assigned.extend(frame for frame in response.frames if frame.HasField("assign"))
        if len(assigned) == 8:
            line.close()
        await asyncio.sleep(0)

    await line.send(write)

    assert len(room.router.board.waiting) == 0, "all went through, four at a time"


async def test_a_reader_that_leaves_bytes_unread_for_long_is_given_up() -> None:
    room, clock = desk()
    line = room.open_line()
    line.stream.queued_bytes, line.stream.full = 2 << 20, True
    Listener(room, line.number, ANONYMOUS).take([hello("a1")])
    await asyncio.sleep(0)

    for _ in range(30):
        await clock.advance(desk_module.stall_look_s)
        room.tick()
        await asyncio.sleep(0)

    with pytest.raises(ResourceExhausted) as refused:
        await sent(line)
    assert refused.value.reason == "STREAM_STALLED"


async def test_hellos_that_wait_are_let_in_with_nothing_else_going_on() -> None:
    room, clock = desk(hellos_per_s=100.0, hellos_burst=1.0)
    line = room.open_line()
    listener = Listener(room, line.number, ANONYMOUS)
    listener.take([hello(f"a{number}") for number in range(4)])
    await asyncio.sleep(0)
    sessions = room.router.board.sessions
    assert len(sessions) == 1

    for count in (2, 3, 4):
        await clock.advance(0.01)
        await eventually(lambda: len(sessions) == count)  # noqa: B023 - awaited in this turn


async def test_what_an_agent_says_before_it_is_let_in_is_no_fault_and_its_goodbye_counts() -> None:
    room, clock = desk(hellos_per_s=100.0, hellos_burst=1.0)
    line = room.open_line()
    listener = Listener(room, line.number, ANONYMOUS)
    listener.take([hello("a1"), hello("a2"), hello("a3")])
    beat = session_pb2.AgentFrame(agent_id="a2", heartbeat=session_pb2.Heartbeat())
    gone = session_pb2.AgentFrame(agent_id="a3", detached=session_pb2.Detached())
    listener.take([beat] * 20 + [gone])
    await clock.advance(0.1)

    await eventually(lambda: len(room.router.board.sessions) == 2)
    line.close()
    frames = [frame for response in await sent(line) for frame in response.frames]
    assert [(frame.agent_id, frame.WhichOneof("frame")) for frame in frames] == [
        ("a1", "ready"),
        ("a2", "ready"),
    ]
    assert not room.router.admission


async def test_ways_to_owners_that_were_replaced_long_since_are_closed() -> None:
    room, clock = desk()
    closed: list[str] = []

    class Way:
        def __init__(self, address: str) -> None:
            self.address = address

        async def close(self, grace: float | None = None) -> None:
            closed.append(self.address)

    dispatch = Dispatch("any", Way, room, Reports("router-1", clock))  # type: ignore[arg-type]  # stands for a channel

    for number in range(channels_max + 2):
        dispatch.channel(f"owner-{number}")
    dispatch.channel("owner-2")
    await asyncio.sleep(0)

    assert closed == ["owner-0", "owner-1"]
    await dispatch.close()
    assert len(closed) == channels_max + 3
