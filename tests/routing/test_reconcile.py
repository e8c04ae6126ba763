from __future__ import annotations

import pytest

from services.routing.core import effects
from services.routing.core.effects import CANCEL, KEEP, LOST
from tests.routing.floor import Floor


def test_an_offer_that_was_lost_with_the_stream_is_sent_again() -> None:
    floor = Floor()
    session = floor.agent("a1")
    lease = floor.granted("t1")
    floor.attendance.close_stream(1, floor.time)
    floor.attendance.open_stream(2)

    floor.agent("a1", stream=2, token=session.resume_token)

    assigns = floor.of(effects.SendAssign)
    assert [assign.lease for assign in assigns] == [lease, lease]
    assert assigns[1].body == "grant of t1"
    kinds = [type(effect) for effect in floor.done]
    assert kinds[kinds.index(effects.SendReady, 5) :][:2] == [effects.SendReady, effects.SendAssign]


def test_an_offer_whose_ack_was_lost_goes_on() -> None:
    floor = Floor()
    session = floor.agent("a1")
    lease = floor.granted("t1")
    floor.attendance.close_stream(1, floor.time)
    floor.attendance.open_stream(2)

    floor.agent("a1", stream=2, in_flight=(lease.key,), token=session.resume_token)

    assert floor.last(effects.Started).lease is lease
    assert floor.last(effects.SendReady).verdicts == ((*lease.key, KEEP),)


def test_a_task_that_an_agent_came_back_without_is_lost_at_once() -> None:
    floor = Floor()
    session = floor.agent("a1")
    lease = floor.running("t1")
    floor.attendance.close_stream(1, floor.time)
    floor.attendance.open_stream(2)

    floor.agent("a1", stream=2, token=session.resume_token)

    assert floor.last(effects.Ended).lease is lease and lease.lost
    assert session.load == 0


def test_what_hello_was_too_early_to_name_is_kept_when_it_was_acked() -> None:
    floor = Floor()
    session = floor.agent("a1", slots=2)
    lease = floor.running("t1")
    lease.offered_seq = 5
    floor.attendance.open_stream(2)

    floor.agent("a1", slots=2, stream=2, token=session.resume_token, last_seq=4)

    assert floor.last(effects.SendReady).verdicts == ((*lease.key, KEEP),)
    assert floor.of(effects.Ended) == []


@pytest.mark.parametrize(("last_seq", "token"), [(5, True), (0, True), (4, False)])
def test_what_hello_could_have_named_is_lost(last_seq: int, token: bool) -> None:
    floor = Floor()
    session = floor.agent("a1", slots=2)
    lease = floor.running("t1")
    lease.offered_seq = 5
    floor.attendance.open_stream(2)
    resume_token = session.resume_token if token else "another"

    floor.agent("a1", slots=2, stream=2, token=resume_token, last_seq=last_seq)

    assert floor.last(effects.Ended).lease is lease and lease.lost


def test_numbers_of_a_session_before_say_nothing_of_this_one() -> None:
    floor = Floor()
    session = floor.agent("a1", slots=2)
    lease = floor.running("t1")
    lease.offered_seq = 50
    floor.attendance.open_stream(2)
    floor.agent("a1", slots=2, stream=2, in_flight=(lease.key,))
    floor.attendance.open_stream(3)

    floor.agent("a1", slots=2, stream=3, token=session.resume_token, last_seq=1)

    assert floor.last(effects.Ended).lease is lease and lease.lost


def test_leases_of_an_earlier_router_are_claimed_before_ready() -> None:
    floor = Floor()

    session = floor.agent("a1", slots=4, in_flight=(("t1", 11), ("t2", 12), ("t3", 13)))

    assert floor.of(effects.SendReady) == []
    assert set(floor.last(effects.Claimed).leases) == {("t1", 11), ("t2", 12), ("t3", 13)}
    floor.orders.verdicts((("t1", 11, KEEP), ("t2", 12, LOST), ("t3", 13, CANCEL)), floor.time)
    floor.turn()
    ready = floor.last(effects.SendReady)
    assert set(ready.verdicts) == {("t1", 11, KEEP), ("t2", 12, LOST), ("t3", 13, CANCEL)}
    assert list(session.leases) == [("t1", 11)]
    assert session.load == 1
    lease = session.leases[("t1", 11)]
    floor.finish(lease)
    assert floor.last(effects.Ended).lease is lease


@pytest.mark.parametrize(
    ("reason", "verdict", "load"),
    [
        ("", KEEP, 1),
        ("CANCELED", CANCEL, 1),
        ("PAUSED", CANCEL, 1),
        ("ATTEMPT_TIMEOUT", CANCEL, 1),
        ("LEASE_EXPIRED", LOST, 0),
        ("LEASE_LOST", LOST, 0),
    ],
)
def test_a_task_that_was_stopped_meanwhile_is_canceled_or_lost_as_it_was(
    reason: str, verdict: int, load: int
) -> None:
    floor = Floor()
    session = floor.agent("a1")
    lease = floor.running("t1")
    floor.attendance.close_stream(1, floor.time)
    floor.attendance.open_stream(2)
    if reason:
        floor.orders.revoke(lease.key, reason, floor.time)

    floor.agent("a1", stream=2, in_flight=(lease.key,), token=session.resume_token)

    assert floor.last(effects.SendReady).verdicts == ((*lease.key, verdict),)
    # Who is to stop a task says when it has; of a lost one nothing more is said.
    assert session.load == load
    assert floor.of(effects.Ended) == []


def test_ready_does_not_wait_for_ever_for_the_scheduler() -> None:
    floor = Floor(claim_s=1.0)
    floor.agent("a1", in_flight=(("t1", 11),))

    floor.sleep(1.2)

    assert floor.last(effects.SendReady).verdicts == (("t1", 11, KEEP),)
    floor.orders.verdicts((("t1", 11, LOST),), floor.time)
    floor.turn()
    assert floor.last(effects.SendCancel).reason == "LEASE_LOST"


def test_without_a_scheduler_agents_go_on_and_their_leases_are_claimed_later() -> None:
    floor = Floor(up=False)

    floor.agent("a1", in_flight=(("t1", 11),))
    assert floor.last(effects.SendReady).verdicts == (("t1", 11, KEEP),)
    assert floor.of(effects.Claimed) == []
    floor.orders.welcome((), (), floor.time)
    floor.turn()

    assert floor.last(effects.Claimed) == effects.Claimed("a1", (("t1", 11),))


def test_an_offer_that_is_sent_again_waits_for_ready_as_well() -> None:
    floor = Floor()
    session = floor.agent("a1", slots=2)
    lease = floor.granted("t1")
    floor.attendance.close_stream(1, floor.time)
    floor.attendance.open_stream(2)

    floor.agent("a1", slots=2, stream=2, token=session.resume_token, in_flight=(("other", 9),))
    assert len(floor.of(effects.SendAssign)) == 1
    floor.orders.verdicts((("other", 9, effects.LOST),), floor.time)
    floor.turn()

    assert floor.of(effects.SendAssign)[1].lease is lease
    kinds = [type(effect) for effect in floor.done]
    assert kinds[kinds.index(effects.SendReady, 5) :][:2] == [effects.SendReady, effects.SendAssign]


def test_leases_that_an_agent_comes_back_with_have_their_time_again() -> None:
    floor = Floor()
    session = floor.agent("a1")
    lease = floor.running("t1")
    floor.attendance.close_stream(1, floor.time)
    floor.attendance.open_stream(2)

    floor.agent("a1", stream=2, token=session.resume_token, in_flight=(lease.key,))

    assert floor.last(effects.Renewed).leases == (lease.key,)
