from __future__ import annotations

import pytest

from services.kernel.errors import AlreadyExists, FailedPrecondition
from services.routing.core import effects
from services.routing.core.assignment import Stage
from services.routing.core.effects import ACCEPTED, DUPLICATE, FENCED, REFUSED
from tests.routing.floor import ANSWER, Floor


def test_a_task_runs_from_offer_to_settlement() -> None:
    floor = Floor()
    session = floor.agent("a1")

    lease = floor.granted("t1")
    floor.work.ack(session, lease.key, floor.time)
    floor.turn()
    assert floor.last(effects.Started).lease is lease
    floor.sleep(0.5)
    floor.finish(lease)
    assert floor.last(effects.Ended).lease.outcome is ANSWER
    outcome = floor.last(effects.Outcome)
    assert (outcome.agent_id, outcome.kind) == ("a1", "SUCCEEDED")
    assert outcome.run_s == pytest.approx(0.5)
    assert floor.of(effects.SendResultAck) == [], "not before it is durable"
    floor.settle(lease)

    ack = floor.last(effects.SendResultAck)
    assert (ack.task_id, ack.epoch, ack.verdict) == ("t1", lease.epoch, ACCEPTED)
    assert len(floor.board.leases) == 0 and not floor.board.leases.unsettled


def test_the_slot_is_free_as_soon_as_the_result_is_there() -> None:
    floor = Floor()
    floor.agent("a1")
    first = floor.running("t1")
    second = floor.granted("t2")

    floor.finish(first)

    assert second.agent_id == "a1"


def test_a_result_without_an_ack_counts_as_both_and_is_reported_once() -> None:
    floor = Floor()
    floor.agent("a1")
    lease = floor.granted("t1")

    floor.finish(lease)

    assert (floor.work.started, floor.work.ended) == (1, 1)
    assert not floor.of(effects.Started)
    assert floor.last(effects.Ended).lease is lease and not lease.start_told


def test_a_start_that_was_reported_is_not_told_again_with_the_end() -> None:
    floor = Floor()
    floor.agent("a1")
    lease = floor.running("t1")

    floor.finish(lease)

    assert floor.of(effects.Started) and lease.start_told


def test_what_a_broken_stream_may_have_lost_is_told_with_the_end() -> None:
    floor = Floor()
    floor.agent("a1")
    lease = floor.running("t1")
    floor.finish(lease)

    floor.orders.disconnected()
    floor.orders.welcome((), (), floor.time)
    floor.turn()

    assert len(floor.of(effects.Ended)) == 2 and not lease.start_told


def test_a_repeated_result_is_reported_once() -> None:
    floor = Floor()
    session = floor.agent("a1")
    lease = floor.running("t1")
    floor.finish(lease)

    floor.work.result(session, lease.key, ANSWER, "SUCCEEDED", floor.time)
    floor.turn()

    assert len(floor.of(effects.Ended)) == 1


def test_late_ack_a_result_of_a_lease_that_is_over_is_the_schedulers_to_refuse() -> None:
    floor = Floor()
    session = floor.agent("a1")

    floor.work.result(session, ("t9", 3), ANSWER, "SUCCEEDED", floor.time)
    floor.turn()
    ended = floor.last(effects.Ended).lease
    assert ended.key == ("t9", 3)
    floor.orders.settled(("t9", 3), FENCED)
    floor.turn()

    assert floor.last(effects.SendResultAck).verdict == FENCED
    assert floor.of(effects.Outcome) == []


def test_a_result_of_an_agent_that_was_given_up_is_fenced_at_once() -> None:
    floor = Floor()
    session = floor.agent("a1")
    lease = floor.running("t1")
    floor.attendance.close_stream(1, floor.time)
    floor.sleep(2.0)
    assert lease.lost
    floor.attendance.open_stream(2)
    session = floor.agent("a1", stream=2, in_flight=(lease.key,))
    assert floor.last(effects.SendReady).verdicts == ((*lease.key, effects.LOST),)

    floor.work.result(session, lease.key, ANSWER, "SUCCEEDED", floor.time)
    floor.turn()

    assert floor.last(effects.SendResultAck).verdict == FENCED
    acks = len(floor.of(effects.SendResultAck))
    floor.settle(lease)
    assert len(floor.of(effects.SendResultAck)) == acks, "that the loss is durable is not for it"


def test_a_result_for_the_task_of_another_agent_is_refused() -> None:
    floor = Floor()
    floor.agent("a1")
    lease = floor.running("t1")
    thief = floor.agent("thief")

    floor.work.result(thief, lease.key, ANSWER, "SUCCEEDED", floor.time)
    floor.turn()

    assert floor.last(effects.SendRefusal).reason == "LEASE_NOT_YOURS"
    assert floor.of(effects.Ended) == []
    assert lease.stage is Stage.RUNNING


def test_a_refused_result_fails_the_attempt_and_says_so() -> None:
    floor = Floor()
    session = floor.agent("a1")
    lease = floor.running("t1")

    floor.work.result(
        session, lease.key, ANSWER, "CANCELED", floor.time, refused="RESULT_TOO_LARGE"
    )
    floor.turn()
    floor.settle(lease, ACCEPTED)

    assert floor.last(effects.SendResultAck).verdict == REFUSED


def test_a_declined_task_goes_back_without_an_attempt() -> None:
    floor = Floor()
    session = floor.agent("a1")
    lease = floor.granted("t1")

    floor.work.nack(session, lease.key, "NACK_INCAPABLE", floor.time)
    floor.turn()

    assert effects.HandedBack("t1", lease.epoch, "NACK_INCAPABLE", "a1") in floor.done
    assert session.load == 0
    assert floor.of(effects.Started) == []


def test_an_agent_that_is_busy_after_all_is_left_alone_for_a_moment() -> None:
    floor = Floor(pause_s=0.25)
    session = floor.agent("a1", slots=2)
    lease = floor.granted("t1")
    floor.work.nack(session, lease.key, "NACK_BUSY", floor.time)
    floor.turn()

    again = floor.granted("t2")
    assert again.session is None
    floor.sleep(0.6)
    lease = floor.granted("t3")
    assert lease.agent_id == "a1"


def test_an_agent_that_declines_because_it_drains_drains() -> None:
    floor = Floor()
    session = floor.agent("a1")
    lease = floor.granted("t1")

    floor.work.nack(session, lease.key, "NACK_DRAINING", floor.time)

    assert session.draining


def test_an_offer_that_nobody_acks_is_taken_back_and_costs_no_attempt() -> None:
    floor = Floor(ack_s=5.0, ack_pause_s=5.0)
    floor.agent("mute")
    lease = floor.granted("t1")

    floor.sleep(4.8)
    assert floor.of(effects.HandedBack) == []
    floor.sleep(0.4)

    assert floor.last(effects.SendRecall).leases == (lease.key,)
    assert effects.HandedBack("t1", lease.epoch, "ACK_TIMEOUT", "mute") in floor.done
    assert floor.last(effects.Outcome).kind == "NOT_ACKED"
    assert floor.granted("t2").session is None, "it gets nothing for a while"


def test_an_ack_after_the_recall_stops_the_agent() -> None:
    floor = Floor()
    session = floor.agent("a1")
    lease = floor.granted("t1")
    floor.sleep(5.2)

    floor.work.ack(session, lease.key, floor.time)
    floor.turn()

    assert floor.last(effects.SendCancel).reason == "LEASE_LOST"
    assert floor.of(effects.Started) == []


def test_renewals_are_passed_on_and_answered_at_once() -> None:
    floor = Floor()
    session = floor.agent("a1")
    lease = floor.running("t1")

    floor.work.renew(session, [lease.key, ("gone", 4)], floor.time)
    floor.turn()

    assert floor.last(effects.Renewed).leases == (lease.key,)
    ack = floor.last(effects.SendRenewAck)
    assert (ack.held, ack.lost) == ((lease.key,), (("gone", 4),))


def test_what_waits_here_is_renewed_by_the_router() -> None:
    floor = Floor(lease_s=30.0)
    floor.agent("a1")
    floor.running("t1")
    waiting = floor.granted("t2")

    floor.sleep(11)

    assert any(waiting.key in renewed.leases for renewed in floor.of(effects.Renewed))


def test_progress_and_questions_are_passed_on_under_the_lease() -> None:
    floor = Floor()
    session = floor.agent("a1")
    lease = floor.running("t1")

    floor.work.progress(session, lease.key, "half", floor.time)
    floor.work.need_input(session, lease.key, "which one?", floor.time)
    floor.turn()

    assert floor.last(effects.Progressed).body == "half"
    assert floor.last(effects.Asked).lease.outcome == "which one?"
    assert session.load == 0, "the lease ends with the question"


def test_a_question_is_repeated_until_it_is_settled_and_then_acked() -> None:
    floor = Floor()
    session = floor.agent("a1")
    lease = floor.running("t1")
    floor.work.need_input(session, lease.key, "which one?", floor.time)
    floor.turn()
    assert floor.of(effects.SendResultAck) == [], "not before it is durable"

    floor.orders.disconnected()
    floor.orders.welcome(floor.orders.hello(), (), floor.time)
    floor.turn()
    assert [effect.lease for effect in floor.of(effects.Asked)] == [lease, lease]
    floor.settle(lease)

    assert floor.last(effects.SendResultAck).verdict == ACCEPTED
    assert not floor.board.leases.unsettled


def test_a_question_of_a_task_that_is_being_stopped_answers_the_cancel() -> None:
    floor = Floor()
    session = floor.agent("a1")
    lease = floor.running("t1")
    floor.orders.revoke(lease.key, "CANCELED", floor.time)
    floor.work.need_input(session, lease.key, "which one?", floor.time)
    floor.turn()
    assert session.load == 0
    floor.settle(lease, FENCED)

    assert floor.last(effects.SendResultAck).verdict == FENCED


def test_a_report_outside_a_stream_ends_the_attempt() -> None:
    floor = Floor()
    floor.agent("a1")
    lease = floor.running("t1")

    floor.work.report("a1", lease.key, ANSWER, "SUCCEEDED", "", floor.time)
    floor.turn()
    floor.settle(lease, DUPLICATE)

    assert floor.last(effects.Settled) == effects.Settled("t1", lease.epoch, DUPLICATE)


def test_a_report_of_a_task_that_another_agent_has_is_stale() -> None:
    floor = Floor()
    floor.agent("a1")
    lease = floor.running("t1")

    with pytest.raises(FailedPrecondition) as refused:
        floor.work.report("a2", lease.key, ANSWER, "SUCCEEDED", "", floor.time)

    assert refused.value.reason == "STALE_LEASE"


def test_a_report_that_differs_from_the_one_before_is_refused_and_a_repeat_waits_with_it() -> None:
    floor = Floor()
    floor.agent("a1")
    lease = floor.running("t1")
    floor.work.report("a1", lease.key, "one", "SUCCEEDED", "", floor.time)

    floor.work.report("a1", lease.key, "one", "SUCCEEDED", "", floor.time)
    with pytest.raises(AlreadyExists) as refused:
        floor.work.report("a1", lease.key, "two", "SUCCEEDED", "", floor.time)

    assert refused.value.reason == "RESULT_CONFLICT"
    assert floor.board.leases.unsettled[lease.key].outcome == "one"


def test_a_task_has_run_since_it_was_sent_also_when_ack_and_result_come_together() -> None:
    floor = Floor()
    session = floor.agent("a1")
    lease = floor.granted("t1")
    floor.sleep(0.3)

    floor.work.ack(session, lease.key, floor.time)
    floor.finish(lease)

    assert floor.last(effects.Ended).lease.run_s == pytest.approx(0.3)
    assert floor.last(effects.Outcome).run_s == pytest.approx(0.3)


def test_an_agent_whose_stream_keeps_breaking_does_not_hold_an_offer_for_ever() -> None:
    floor = Floor(ack_s=5.0, detach_grace_s=1.5)
    session = floor.agent("a1")
    lease = floor.granted("t1")
    began_s = floor.time.mono_s

    for stream in range(2, 20):
        floor.sleep(0.5)
        floor.attendance.close_stream(stream - 1, floor.time)
        floor.turn()
        floor.sleep(0.5)
        floor.attendance.open_stream(stream)
        floor.agent("a1", stream=stream, token=session.resume_token)
        if floor.of(effects.HandedBack):
            break

    assert floor.time.mono_s - began_s < 6.5
    assert floor.last(effects.HandedBack) == ("t1", lease.epoch, "ACK_TIMEOUT", "a1")
    assert floor.board.leases.get(lease.key) is None
