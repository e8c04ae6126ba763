from __future__ import annotations

from services.routing.core import effects
from services.routing.core.assignment import Lease, Stage
from services.routing.core.effects import ACCEPTED, KEEP, LOST
from services.routing.core.orders import reclaim_wait_s
from tests.routing.floor import ANSWER, Floor


def test_a_grant_that_comes_twice_is_taken_once() -> None:
    floor = Floor()
    floor.agent("a1", slots=2)
    lease = floor.running("t1")
    kind = floor.board.fleet.class_of(["echo"])

    floor.orders.grant(lease, kind.class_id, ("echo",), (), floor.time)
    floor.turn()

    assert floor.assigned() == [("t1", "a1")]


def test_a_grant_for_a_class_that_is_gone_is_handed_back() -> None:
    floor = Floor()
    lease = Lease("t1", 1)

    floor.orders.grant(lease, 99, ("echo",), (), floor.time)

    assert floor.turn() == [effects.HandedBack("t1", 1, "NO_AGENT", "")]
    assert len(floor.board.leases) == 0


def test_a_revoked_task_that_waits_is_forgotten() -> None:
    floor = Floor()
    floor.agent("a1")
    floor.running("t1")
    waiting = floor.granted("t2")

    floor.orders.revoke(waiting.key, "CANCELED", floor.time)

    assert len(floor.board.waiting) == 0
    assert floor.of(effects.SendCancel) == []


def test_a_revoked_task_stops_its_agent_which_keeps_the_slot_until_it_answers() -> None:
    floor = Floor()
    floor.agent("a1")
    lease = floor.running("t1")

    floor.orders.revoke(lease.key, "CANCELED", floor.time)
    floor.turn()
    assert floor.last(effects.SendCancel).reason == "CANCELED"
    waiting = floor.granted("t2")
    assert waiting.session is None

    floor.finish(lease, "CANCELED")
    assert waiting.agent_id == "a1"
    assert floor.of(effects.Outcome) == [], "a revoked task is nobody's fault"


def test_an_agent_that_never_stops_gets_its_slot_back_after_a_while() -> None:
    floor = Floor(stop_s=10.0)
    floor.agent("a1")
    lease = floor.running("t1")
    floor.orders.revoke(lease.key, "CANCELED", floor.time)
    waiting = floor.granted("t2")

    floor.sleep(11)

    assert waiting.agent_id == "a1"


def test_an_agent_whose_lease_expired_gets_nothing_until_it_is_heard() -> None:
    floor = Floor(stop_s=1.0)
    floor.agent("frozen", slots=2)
    lease = floor.running("t1")

    floor.orders.revoke(lease.key, "LEASE_EXPIRED", floor.time)
    waiting = floor.granted("t2")
    assert waiting.session is None

    floor.attendance.speaker(1, "frozen", floor.time)
    assert floor.granted("t3").agent_id == "frozen"


def test_results_are_repeated_to_a_scheduler_that_came_back() -> None:
    floor = Floor()
    session = floor.agent("a1", slots=3)
    ended = floor.running("ended")
    running = floor.running("running")
    floor.finish(ended)
    floor.orders.disconnected()
    asked = floor.orders.hello()
    floor.done.clear()

    floor.orders.welcome(asked, [(*running.key, KEEP)], floor.time)
    floor.turn()

    assert asked == (running.key,)
    assert floor.last(effects.Ended).lease is ended
    assert floor.last(effects.Started).lease is running
    assert session.load == 1
    assert floor.last(effects.Credited).total == 2 + 16


def test_work_goes_on_without_the_scheduler_and_is_told_when_it_is_back() -> None:
    floor = Floor()
    floor.agent("a1")
    lease = floor.running("t1")
    floor.orders.disconnected()

    floor.finish(lease)
    held = floor.orders.hello()
    floor.done.clear()
    floor.orders.welcome(held, (), floor.time)
    floor.turn()

    assert floor.last(effects.Ended).lease.outcome is ANSWER


def test_hand_backs_are_repeated_for_a_while() -> None:
    floor = Floor()
    session = floor.agent("a1")
    lease = floor.granted("t1")
    floor.orders.disconnected()
    floor.work.nack(session, lease.key, "NACK_INCAPABLE", floor.time)
    floor.turn()
    floor.done.clear()

    floor.orders.welcome((), (), floor.time)
    floor.turn()

    assert effects.HandedBack("t1", lease.epoch, "NACK_INCAPABLE", "a1") in floor.done


def test_leases_that_the_scheduler_does_not_confirm_are_stopped() -> None:
    floor = Floor()
    floor.agent("a1", slots=2)
    lost, forgotten = floor.running("lost"), floor.running("forgotten")
    held = floor.orders.hello()
    floor.orders.disconnected()

    floor.orders.welcome(held, [(*lost.key, LOST)], floor.time)
    floor.turn()

    stopped = {(each.task_id, each.reason) for each in floor.of(effects.SendCancel)}
    assert stopped == {("lost", "LEASE_LOST"), ("forgotten", "LEASE_LOST")}
    assert lost.stage is forgotten.stage is Stage.STOPPING


def test_a_renewal_that_came_too_late_stops_the_agent() -> None:
    floor = Floor()
    floor.agent("a1")
    lease = floor.running("t1")

    floor.orders.verdicts(((*lease.key, LOST),), floor.time)
    floor.turn()

    assert floor.last(effects.SendCancel).reason == "LEASE_LOST"


def test_settlements_of_results_from_elsewhere_are_passed_on() -> None:
    floor = Floor()

    floor.orders.settled(("t1", 4), ACCEPTED)

    assert floor.turn() == [effects.Settled("t1", 4, ACCEPTED)]


def test_the_schedulers_lease_time_rules_what_agents_are_told() -> None:
    floor = Floor()
    floor.agent("a1")
    assert floor.last(effects.SendReady).lease_s == 30.0

    floor.orders.welcome((), (), floor.time, 6.0)
    floor.turn()
    floor.agent("a2")

    assert floor.of(effects.SendTune) == [effects.SendTune(1, 6.0)]
    assert floor.last(effects.SendReady).lease_s == 6.0


def test_what_waits_for_long_goes_back_when_agents_of_another_router_are_free() -> None:
    floor = Floor()
    floor.agent("a1")
    running = floor.running("t0")
    first, second = floor.granted("t1"), floor.granted("t2")
    floor.sleep(reclaim_wait_s)
    young = floor.granted("t3")

    floor.orders.reclaim(["echo", "more"], 5, floor.time)
    floor.turn()

    assert [(e.task_id, e.reason) for e in floor.of(effects.HandedBack)] == [
        (first.task_id, "FREE_ELSEWHERE"),
        (second.task_id, "FREE_ELSEWHERE"),
    ]
    assert floor.board.leases.get(running.key) is running, "what an agent has stays with it"
    assert floor.board.leases.get(young.key) is young, "it may be placed at any moment"


def test_no_more_goes_back_than_is_asked_for_and_nothing_that_needs_more() -> None:
    floor = Floor()
    floor.agent("a1", "read", "write")
    floor.running("t0", "read", of=("read", "write"))
    for number, required in enumerate([("write",), ("read",), ("read",)]):
        floor.granted(f"t{number + 1}", *required, of=("read", "write"))
    floor.sleep(reclaim_wait_s)

    floor.orders.reclaim(["read"], 1, floor.time)
    floor.turn()

    assert [e.task_id for e in floor.of(effects.HandedBack)] == ["t2"]
