from __future__ import annotations

import pytest

from services.kernel.errors import FailedPrecondition, ResourceExhausted
from services.routing.core import effects
from services.routing.core.assignment import Stage
from services.routing.core.effects import KEEP
from tests.routing.floor import Floor


def test_hello_opens_a_session_and_work_begins_after_ready() -> None:
    floor = Floor()

    session = floor.agent("a1")
    floor.granted("t1")

    kinds = [type(effect) for effect in floor.done]
    assert kinds.index(effects.Opened) < kinds.index(effects.SendReady)
    assert kinds.index(effects.SendReady) < kinds.index(effects.SendAssign)
    assert not session.resumed


def test_a_frame_before_hello_ends_the_stream() -> None:
    floor = Floor()

    with pytest.raises(FailedPrecondition) as refused:
        floor.attendance.speaker(1, "a1", floor.time)

    assert refused.value.reason == "HELLO_REQUIRED"


def test_a_second_hello_is_refused_and_the_session_goes_on() -> None:
    floor = Floor()
    session = floor.agent("a1")

    floor.agent("a1")

    assert floor.last(effects.SendRefusal).reason == "HELLO_REPEATED"
    assert floor.board.sessions["a1"] is session
    assert floor.granted("t1").session is session


def test_sixteen_refused_frames_in_a_minute_end_the_stream() -> None:
    floor = Floor()
    floor.agent("a1")
    for _ in range(15):
        floor.agent("a1")

    with pytest.raises(ResourceExhausted) as refused:
        floor.agent("a1")

    assert refused.value.reason == "TOO_MANY_STRIKES"


def test_strikes_are_forgiven_after_a_minute() -> None:
    floor = Floor()
    floor.agent("a1")
    for _ in range(15):
        floor.agent("a1")
    floor.sleep(61, step_s=1)

    floor.agent("a1")

    assert len(floor.of(effects.SendRefusal)) == 16


def test_live_task_stolen_a_reconnect_within_the_grace_keeps_the_task() -> None:
    floor = Floor(detach_grace_s=1.5)
    session = floor.agent("a1")
    floor.agent("other")
    lease = floor.running("t1", excluded=("other",))
    assert lease.session is session

    floor.attendance.close_stream(1, floor.time)
    floor.sleep(1.0)
    floor.attendance.open_stream(2)
    token = session.resume_token
    floor.agent("a1", stream=2, in_flight=(lease.key,), token=token)
    floor.sleep(5.0)

    ready = floor.last(effects.SendReady)
    assert ready.resumed and ready.verdicts == ((*lease.key, KEEP),)
    assert floor.of(effects.Ended) == []
    assert lease.stage is Stage.RUNNING and lease.session is floor.board.sessions["a1"]


def test_frames_are_numbered_on_through_a_resumed_session_and_anew_in_another() -> None:
    floor = Floor()
    session = floor.agent("a1", slots=3)
    assert session.next_seq() == 1
    floor.attendance.close_stream(1, floor.time)
    floor.attendance.open_stream(2)

    floor.agent("a1", stream=2, slots=3, token=session.resume_token)
    assert session.next_seq() == 2
    floor.attendance.open_stream(3)
    floor.agent("a1", stream=3, slots=3)
    assert session.next_seq() == 1


def test_an_agent_that_does_not_come_back_loses_its_tasks_after_the_grace() -> None:
    floor = Floor(detach_grace_s=1.5)
    floor.agent("a1", slots=2)
    running = floor.running("t1")
    offered = floor.granted("t2")

    floor.attendance.close_stream(1, floor.time)
    floor.sleep(1.4)
    assert floor.of(effects.Ended) == []
    floor.sleep(0.3)

    assert floor.last(effects.Ended).lease is running and running.lost
    assert effects.HandedBack("t2", offered.epoch, "AGENT_GONE", "a1") in floor.done
    assert "a1" not in floor.board.sessions
    assert effects.Closed("a1", False) in floor.done
    assert floor.last(effects.Outcome).kind == "LOST"


def test_a_detached_agent_gets_no_work() -> None:
    floor = Floor()
    floor.agent("a1")
    floor.attendance.close_stream(1, floor.time)
    floor.turn()

    lease = floor.granted("t1")

    assert lease.session is None


def test_a_half_open_stream_gives_way_to_the_same_instance() -> None:
    floor = Floor()
    session = floor.agent("a1")
    lease = floor.running("t1")
    floor.attendance.open_stream(2)

    floor.agent("a1", stream=2, in_flight=(lease.key,), token=session.resume_token)
    floor.attendance.close_stream(1, floor.time)
    floor.sleep(3.0)

    assert floor.of(effects.SendSuperseded) == []
    assert floor.of(effects.Ended) == []
    assert session.stream is not None and session.stream.number == 2


def test_goodbye_keeps_nothing() -> None:
    floor = Floor()
    session = floor.agent("a1")
    lease = floor.running("t1")

    floor.attendance.goodbye(session, floor.time)
    floor.turn()

    assert effects.Closed("a1", True) in floor.done
    assert floor.last(effects.Ended).lease is lease
    assert floor.attendance.speaker(1, "a1", floor.time) is None
    assert "a1" not in floor.board.sessions


def test_an_agent_whose_bridge_lost_it_may_come_back_through_the_bridge() -> None:
    floor = Floor()
    session = floor.agent("a1")
    floor.agent("a2")
    lease = floor.running("t1", excluded=("a2",))

    floor.attendance.lost(session, floor.time)
    floor.sleep(1.0)
    floor.agent("a1", in_flight=(lease.key,), token=session.resume_token)
    floor.sleep(3.0)

    assert floor.of(effects.Ended) == []
    assert lease.session is session


def test_drain_undo_an_agent_that_drains_gets_nothing_more_whatever_it_says() -> None:
    floor = Floor()
    session = floor.agent("a1", slots=2)
    floor.running("t1")

    floor.attendance.drain_agent(session)
    floor.attendance.credit(session, 100)
    floor.attendance.speaker(1, "a1", floor.time)
    floor.standings.directive("a1", breaker="CLOSED", draining=False, quarantined=False)
    lease = floor.granted("t2")

    assert lease.session is None and session.draining


def test_drain_undo_an_agent_that_drains_when_it_comes_gets_nothing() -> None:
    floor = Floor()
    task = floor.granted("t1", of=("echo",))

    session = floor.agent("a1", draining=True)

    assert task.session is None and session.draining


def test_credits_count_up_and_bound_what_an_agent_gets() -> None:
    floor = Floor()
    session = floor.agent("a1", slots=10)
    floor.attendance.credit(session, 2)

    leases = [floor.granted(f"t{number}") for number in range(4)]
    assert [lease.session is session for lease in leases] == [True, True, False, False]

    floor.finish(leases[0])
    assert leases[2].session is None, "a slot is free but no credit"
    floor.attendance.credit(session, 3)
    floor.attendance.credit(session, 1)
    floor.turn()
    assert [lease.session is session for lease in leases[2:]] == [True, False]


@pytest.mark.parametrize("resumes", [True, False], ids=["resumed", "another-session"])
def test_black_hole_what_a_stream_has_swallowed_costs_no_credit_after_it(resumes: bool) -> None:
    floor = Floor(ack_s=5.0, ack_pause_s=5.0)
    session = floor.agent("a1")
    floor.attendance.credit(session, 1)
    floor.granted("t1")
    floor.sleep(5.1)
    assert floor.last(effects.SendRecall).leases
    floor.attendance.open_stream(2)

    floor.agent("a1", stream=2, token=session.resume_token if resumes else "")
    floor.attendance.credit(session, 1)  # it has received none and has a slot
    floor.sleep(5.1)
    lease = floor.granted("t2")

    assert lease.session is session
    assert floor.last(effects.SendReady).resumed is resumes


def test_an_offer_that_is_repeated_after_ready_is_the_first_of_its_count() -> None:
    floor = Floor()
    session = floor.agent("a1", slots=2)
    floor.attendance.credit(session, 2)
    floor.granted("t1")
    floor.attendance.close_stream(1, floor.time)
    floor.attendance.open_stream(2)

    floor.agent("a1", slots=2, stream=2, token=session.resume_token)
    floor.attendance.credit(session, 1)

    assert floor.assigned() == [("t1", "a1"), ("t1", "a1")]
    assert floor.granted("t2").session is None, "its credit is used up"


def test_a_recalled_assignment_stays_counted_and_its_slot_is_credit_again() -> None:
    floor = Floor(ack_s=5.0, ack_pause_s=5.0)
    session = floor.agent("a1")
    floor.attendance.credit(session, 1)
    floor.granted("t1")
    floor.sleep(10.2)
    assert floor.granted("t2").session is None

    floor.attendance.credit(session, 2)
    floor.turn()

    assert floor.assigned() == [("t1", "a1"), ("t2", "a1")]


def test_a_router_that_drains_gives_back_what_no_agent_has_and_asks_agents_to_move() -> None:
    floor = Floor()
    floor.agent("a1")
    running = floor.running("t1")
    waiting = floor.granted("t2")

    floor.attendance.drain(floor.time.wall_ms + 5_000, floor.time)
    floor.turn()
    late = floor.granted("t3")

    assert floor.last(effects.SendDrain).stream == 1
    assert effects.HandedBack("t2", waiting.epoch, "ROUTER_DRAINING", "") in floor.done
    assert effects.HandedBack("t3", late.epoch, "ROUTER_DRAINING", "") in floor.done
    assert running.stage is Stage.RUNNING
    total, _ = floor.credit()
    assert total == floor.board.fleet.class_of(["echo"]).parts[0].granted


def test_a_router_that_drains_takes_no_more_agents() -> None:
    floor = Floor()
    floor.attendance.drain(floor.time.wall_ms + 5_000, floor.time)

    with pytest.raises(KeyError):
        floor.agent("late")

    refusal = floor.last(effects.SendRefusal)
    assert refusal.reason == "DRAINING" and refusal.closing


def test_agents_that_move_away_from_a_draining_router_lose_nothing() -> None:
    floor = Floor()
    floor.agent("a1")
    lease = floor.running("t1")
    floor.attendance.drain(floor.time.wall_ms + 5_000, floor.time)

    floor.attendance.close_stream(1, floor.time)
    floor.sleep(3.0)

    assert floor.of(effects.Ended) == []
    assert floor.board.leases.get(lease.key) is None


def test_a_router_takes_no_more_agents_than_its_limit() -> None:
    floor = Floor(agents_max=2)
    floor.agent("a1")
    floor.agent("a2")
    floor.attendance.open_stream(2)

    with pytest.raises(ResourceExhausted) as refused:
        floor.agent("a3", stream=2)

    assert refused.value.reason == "TOO_MANY_AGENTS"
    floor.attendance.close_stream(1, floor.time)
    floor.agent("a2", stream=2)
