from __future__ import annotations

from services.routing.core import effects
from services.routing.core.liveness import LOOK_S
from services.routing.core.session import session_bytes_max
from tests.routing.floor import Floor


def test_an_agent_that_is_silent_for_two_heartbeats_gets_no_work_until_it_speaks() -> None:
    floor = Floor(heartbeat_s=1.0, probe_s=1_000.0)
    floor.agent("a1")

    floor.sleep(3.5)
    lease = floor.granted("t1")
    assert lease.session is None

    floor.attendance.speaker(1, "a1", floor.time)
    assert floor.granted("t2").agent_id == "a1"


def test_zombie_stream_an_agent_that_only_talks_is_probed_and_then_cut_off() -> None:
    floor = Floor(probe_s=2.0, heartbeat_s=1.0, detach_grace_s=1.0)
    floor.agent("zombie")
    lease = floor.running("t1")

    for _ in range(50):
        if floor.attendance.speaker(1, "zombie", floor.time) is None:
            break
        floor.sleep(0.1)

    assert floor.of(effects.SendProbe) != []
    refusal = floor.last(effects.SendRefusal)
    assert refusal.reason == "PROBE_UNANSWERED" and refusal.closing
    assert floor.granted("t2").session is None
    floor.sleep(1.5)
    assert floor.last(effects.Ended).lease is lease


def test_zombie_stream_it_gets_no_work_one_interval_after_the_last_proof() -> None:
    floor = Floor(probe_s=10.0, ack_s=2.0, heartbeat_s=1.0)
    session = floor.agent("zombie", slots=2)
    proved_s = session.proved_s
    assert floor.granted("t1").agent_id == "zombie"

    while floor.time.mono_s < proved_s + 10.0 + LOOK_S:
        floor.attendance.speaker(1, "zombie", floor.time)
        floor.sleep(0.1)

    assert session.stream is not None and session.proved_s == proved_s
    assert floor.granted("t2").session is not session


def test_an_answered_probe_proves_the_way_to_the_agent() -> None:
    floor = Floor(probe_s=2.0, heartbeat_s=1.0)
    session = floor.agent("a1")

    for _ in range(100):
        floor.attendance.speaker(1, "a1", floor.time)
        floor.sleep(0.1)
        for probe in floor.of(effects.SendProbe):
            floor.attendance.probe_reply(session, probe.nonce, floor.time)
        floor.done.clear()

    assert session.stream is not None
    assert floor.granted("t1").session is session


def test_an_agent_that_acks_needs_no_probe() -> None:
    floor = Floor(probe_s=4.0, heartbeat_s=1.0)
    floor.agent("a1")

    for number in range(10):
        floor.finish(floor.running(f"t{number}"))
        floor.attendance.speaker(1, "a1", floor.time)
        floor.sleep(1.0)

    assert floor.of(effects.SendProbe) == []


def test_the_registry_is_told_once_of_each_agent_that_was_heard() -> None:
    floor = Floor()
    quiet = floor.agent("quiet")
    loud = floor.agent("loud")
    floor.router.liveness.alive()

    assert floor.router.liveness.alive() == []
    floor.sleep(0.1)
    floor.attendance.speaker(1, "loud", floor.time)
    assert floor.router.liveness.alive() == [loud]
    assert quiet not in floor.router.liveness.alive()


def test_agents_of_a_stream_that_is_not_read_get_nothing_and_in_the_end_it_is_closed() -> None:
    floor = Floor(stall_s=10.0)
    floor.agent("a1", slots=4)
    liveness = floor.router.liveness

    liveness.stall_stream(1, floor.time, stalled=True)
    assert floor.granted("t1").session is None
    liveness.stall_stream(1, floor.time, stalled=False)
    assert floor.granted("t2").agent_id == "a1"

    liveness.stall_stream(1, floor.time, stalled=True)
    floor.sleep(10.0)
    for _ in range(2):
        liveness.stall_stream(1, floor.time, stalled=True)
        floor.turn()

    assert [each.reason for each in floor.of(effects.CloseStream)] == ["STREAM_STALLED"]


def test_an_agent_that_leaves_a_probe_unanswered_gets_no_work_before_it_is_given_up() -> None:
    floor = Floor(probe_s=10.0, ack_s=2.0, heartbeat_s=60.0)
    session = floor.agent("a1")
    floor.sleep(13.0)
    assert floor.of(effects.SendProbe)

    floor.granted("t1")
    assert floor.assigned() == []
    floor.attendance.probe_reply(session, session.probe_nonce, floor.time)
    floor.granted("t2")

    assert floor.assigned()[-1] == ("t2", "a1")


def test_an_agent_whose_reader_is_a_mebibyte_behind_gets_nothing_more() -> None:
    floor = Floor()
    slow = floor.agent("slow", slots=100)
    for number in range(9):
        floor.grant(f"t{number}", size_bytes=session_bytes_max // 4)
    floor.turn()

    # The matcher stops in the middle of a turn, at the bound and at most one payload.
    assert (slow.load, slow.free_slots()) == (4, 0)
    assert [lease.task_id for lease in floor.board.waiting] == [f"t{n}" for n in range(4, 9)]


def test_it_gets_work_again_when_half_of_that_was_read() -> None:
    floor = Floor()
    slow = floor.agent("slow", slots=100)
    floor.grant("t0", size_bytes=session_bytes_max)
    floor.turn()
    stream = slow.stream
    assert stream is not None and stream.full

    assert not floor.router.liveness.sent(stream, session_bytes_max // 2 + 1)
    assert slow.free_slots() == 0
    assert floor.router.liveness.sent(stream, session_bytes_max // 2)
    assert slow.free_slots() == 99
    assert floor.granted("t1").session is slow


def test_agents_on_one_stream_have_room_for_each_and_wait_together() -> None:
    floor = Floor()
    agents = [floor.agent(f"a{number}", slots=100) for number in range(3)]
    for number in range(3):
        floor.grant(f"t{number}", size_bytes=session_bytes_max)
    floor.turn()
    late = floor.granted("late")

    assert [agent.free_slots() for agent in agents] == [0] * 3
    assert late.session is None, "they are free, and the way to them is not"
    assert len(floor.board.waiting) == 1, "it is worth a moment's wait"


def test_a_flood_of_renewals_that_nobody_reads_the_answers_to_ends_the_stream() -> None:
    floor = Floor()
    session = floor.agent("a1")
    keys = [(f"t{number}", number) for number in range(1_000)]

    while not floor.of(effects.CloseStream):
        floor.work.renew(session, keys, floor.time)
        floor.turn()

    assert len(floor.of(effects.SendRenewAck)) * 1_000 * effects.LEASE_BYTES < 3 * session_bytes_max
