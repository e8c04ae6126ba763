from __future__ import annotations

from services.routing.core import effects
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
    floor = Floor(probe_s=2.0, heartbeat_s=1.0)
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
