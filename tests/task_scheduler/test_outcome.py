from __future__ import annotations

import pytest

from services.task_scheduler.core.event import (
    COST_MAX,
    TOKENS_MAX,
    Completed,
    Failed,
    Progress,
    Terms,
    Usage,
)
from services.task_scheduler.core.orders import Revoke, Settlement, Verdicts
from services.task_scheduler.core.outcome import RESULT_BYTES_MAX
from services.task_scheduler.core.poison import AGENT_LOST
from services.task_scheduler.core.retry import RetryPolicy
from services.task_scheduler.core.states import Kind, State
from services.task_scheduler.core.task import Lease
from tests.task_scheduler.rig import Rig

NO_WAIT = RetryPolicy(max_retries=3, initial_backoff_ms=0)


def report(seq: int, fraction: float = 0.5) -> Progress:
    return Progress(fraction, "half", b"", None, b"state", seq)


def test_the_journey_of_a_task() -> None:
    rig = Rig()
    task = rig.running()
    rig.advance(2.0)
    rig.complete(rig.lease(task), result=b"\x12\x02ok")

    assert rig.kinds(task) == [
        Kind.CREATED,
        Kind.QUEUED,
        Kind.ASSIGNED,
        Kind.STARTED,
        Kind.COMPLETED,
    ]
    assert (task.state, task.result, task.attempt) == (State.COMPLETED, b"\x12\x02ok", 1)
    assert rig.settlements() == [Settlement.ACCEPTED]
    completed = rig.events[-1].detail
    assert isinstance(completed, Completed)
    assert (completed.run_us, completed.total_us) == (2_000_000, 2_000_000)


def test_a_result_before_the_report_of_its_start_counts_as_started() -> None:
    rig = Rig()
    task = rig.granted()
    rig.complete(rig.lease(task))

    assert rig.kinds(task)[-2:] == [Kind.STARTED, Kind.COMPLETED]


def test_a_repeated_start_changes_nothing() -> None:
    rig = Rig()
    task = rig.running()
    seq = rig.book.seq

    rig.start(task)

    assert rig.book.seq == seq


def test_a_start_under_a_dead_lease_is_told_so() -> None:
    rig = Rig()
    rig.core.outcomes.started("r1", Lease("00-none", 4), "a1", b"", rig.now)
    rig.take()

    assert len(rig.said(Verdicts)) == 1


def test_a_repeated_result_is_a_duplicate_and_another_one_a_conflict() -> None:
    rig = Rig()
    task = rig.running()
    lease = rig.lease(task)
    rig.complete(lease, result=b"one")
    seq = rig.book.seq

    rig.complete(lease, result=b"one")
    rig.complete(lease, result=b"two")

    assert rig.settlements() == [
        Settlement.ACCEPTED,
        Settlement.DUPLICATE,
        Settlement.CONFLICT,
    ]
    assert (rig.book.seq, task.result, rig.core.outcomes.fenced) == (seq, b"one", 1)


def test_duplicates_are_known_after_a_restart() -> None:
    rig = Rig()
    task = rig.running()
    lease = rig.lease(task)
    rig.complete(lease)
    again = rig.restarted()
    again.core.start(again.now)

    again.complete(lease)

    assert again.settlements() == [Settlement.DUPLICATE]


def test_a_repeated_failure_is_a_duplicate_while_the_next_attempt_runs() -> None:
    rig = Rig()
    task = rig.running(terms=Terms(policy=NO_WAIT))
    lease = rig.lease(task)
    rig.fail(lease)
    rig.advance(0.5)
    rig.start(task, "a2")

    rig.fail(lease)

    assert rig.settlements()[-1] is Settlement.DUPLICATE
    assert task.state is State.RUNNING


def test_a_zombie_is_fenced_while_its_task_is_granted_anew() -> None:
    rig = Rig()
    task = rig.running("a1", terms=Terms(policy=NO_WAIT))
    dead = rig.lease(task)
    rig.advance(31.0)
    assert task.state is State.ASSIGNED

    rig.complete(dead, "a1")
    assert rig.settlements() == [Settlement.FENCED]
    assert task.state is State.ASSIGNED

    # Not even the same agent may settle its new lease with the old one.
    rig.start(task, "a1")
    rig.complete(dead, "a1")
    rig.fail(dead, "a1", retryable=False)
    assert rig.settlements() == [Settlement.FENCED, Settlement.FENCED, Settlement.DUPLICATE]
    assert task.state is State.RUNNING


def test_an_outcome_of_another_agent_is_fenced() -> None:
    rig = Rig()
    task = rig.running("a1")

    rig.complete(rig.lease(task), "a2")

    assert rig.settlements() == [Settlement.FENCED]
    assert task.state is State.RUNNING


def test_what_attempts_consumed_adds_up_to_no_more_than_can_be_told() -> None:
    most = Usage(TOKENS_MAX, TOKENS_MAX, COST_MAX)

    assert most.plus(most) == most


def test_an_outcome_of_a_task_or_a_lease_that_never_was_is_unknown() -> None:
    rig = Rig()
    task = rig.running()
    rig.complete(Lease("00-none", task.lease_epoch))
    rig.complete(Lease(task.task_id, task.lease_epoch + 1))

    assert rig.settlements() == [Settlement.UNKNOWN, Settlement.UNKNOWN]
    assert task.state is State.RUNNING


def test_a_failed_attempt_waits_and_avoids_the_agent() -> None:
    rig = Rig()
    policy = RetryPolicy(initial_backoff_ms=1_000, jitter=0.0)
    task = rig.running("a1", terms=Terms(policy=policy))

    rig.fail(rig.lease(task))
    assert task.state is State.RETRY_WAIT
    assert rig.kinds(task)[-2:] == [Kind.ATTEMPT_FAILED, Kind.RETRYING]
    rig.advance(0.9)
    assert task.state is State.RETRY_WAIT
    rig.advance(0.6)
    assert task.state is State.ASSIGNED
    assert task.excluded == ("a1",)


def test_retries_spent_make_a_dead_letter() -> None:
    rig = Rig()
    task = rig.running(terms=Terms(policy=NO_WAIT._replace(max_retries=2)))
    for agent_id in ("a1", "a2", "a3"):
        if task.state is State.ASSIGNED:
            rig.start(task, agent_id)
        rig.fail(rig.lease(task), agent_id)
        rig.advance(0.5)

    assert task.state is State.FAILED
    assert (task.attempt, task.failures) == (3, 3)
    assert list(rig.book.dead) == [task.task_id]
    assert rig.kinds(task)[-2:] == [Kind.ATTEMPT_FAILED, Kind.FAILED]
    assert [attempt.number for attempt in task.attempts] == [1, 2, 3]


def test_a_final_failure_ends_the_task_at_once_and_blames_no_agent() -> None:
    rig = Rig()
    task = rig.running()
    rig.fail(rig.lease(task), retryable=False, reason="BAD_INPUT")

    assert task.state is State.FAILED
    last = rig.events[-1].detail
    assert isinstance(last, Failed)
    assert (last.failure.reason, last.agent_fault) == ("BAD_INPUT", False)
    assert last.total_us >= 0


def test_a_lost_agent_costs_an_attempt() -> None:
    rig = Rig()
    task = rig.running(terms=Terms(policy=NO_WAIT))
    rig.core.outcomes.failed(
        "r1", rig.lease(task), "a1", AGENT_LOST, None, rig.now, agent_fault=True
    )
    rig.advance(0.5)

    assert (task.state, task.failures) == (State.ASSIGNED, 1)
    failed = next(e.detail for e in rig.events if e.kind is Kind.ATTEMPT_FAILED)
    assert isinstance(failed, Failed)
    assert (failed.failure.reason, failed.agent_fault) == ("AGENT_LOST", True)


def test_an_attempt_that_runs_too_long_is_ended_although_it_renews() -> None:
    rig = Rig()
    task = rig.running(terms=Terms(policy=NO_WAIT, attempt_timeout_ms=45_000))
    lease = rig.lease(task)
    for _ in range(9):
        rig.advance(5.0)
        rig.core.dispatch.renewed("r1", [lease], rig.now)
    rig.advance(1.0)

    assert task.failures == 1
    assert rig.said(Revoke)[0] == Revoke(lease, "ATTEMPT_TIMEOUT")


def test_the_timeout_of_an_ended_attempt_does_not_hit_the_next() -> None:
    rig = Rig()
    task = rig.running(terms=Terms(policy=NO_WAIT, attempt_timeout_ms=10_000))
    rig.advance(6.0)
    rig.fail(rig.lease(task))
    rig.advance(0.5)
    rig.start(task, "a2")

    rig.advance(5.0)

    assert task.state is State.RUNNING


def test_a_result_that_is_too_large_fails_the_task() -> None:
    rig = Rig()
    task = rig.running()

    rig.complete(rig.lease(task), result=b"r" * (RESULT_BYTES_MAX + 1))

    assert rig.settlements() == [Settlement.REFUSED]
    assert task.failure is not None and task.failure.reason == "RESULT_TOO_LARGE"


def test_progress_is_kept_and_old_reports_are_dropped() -> None:
    rig = Rig()
    task = rig.running()
    for seq, fraction in ((1, 0.2), (3, 0.6), (2, 0.4), (3, 0.9)):
        rig.core.outcomes.progressed("r1", rig.lease(task), "a1", report(seq, fraction), rig.now)
    rig.take()

    assert (task.fraction, task.message) == (0.6, "half")
    assert rig.kinds(task).count(Kind.PROGRESS) == 2


def test_a_checkpoint_is_there_for_the_next_attempt() -> None:
    rig = Rig()
    task = rig.running(terms=Terms(policy=NO_WAIT))
    rig.core.outcomes.progressed("r1", rig.lease(task), "a1", report(1), rig.now)
    rig.fail(rig.lease(task))
    rig.advance(0.5)

    assert rig.grants()[-1].task.checkpoint == b"state"


def test_progress_under_a_dead_lease_is_told_so_and_forgotten() -> None:
    rig = Rig()
    task = rig.running()
    lease = rig.lease(task)
    rig.complete(lease)
    seq = rig.book.seq

    rig.core.outcomes.progressed("r1", lease, "a1", report(1), rig.now)
    rig.take()

    assert rig.book.seq == seq
    assert len(rig.said(Verdicts)) == 1


def test_a_question_is_settled_as_a_result_is() -> None:
    rig = Rig()
    task = rig.running()
    lease = rig.lease(task)
    for _ in range(2):
        rig.core.outcomes.asked("r1", lease, "a1", b"which?", None, rig.now)
    dead = Lease(task.task_id, lease.epoch - 1)
    rig.core.outcomes.asked("r1", dead, "a1", b"which?", None, rig.now)
    rig.take()

    assert task.state is State.INPUT_REQUIRED
    assert rig.settlements() == [
        Settlement.ACCEPTED,
        Settlement.DUPLICATE,
        Settlement.FENCED,
    ]


def test_a_hand_back_costs_no_attempt_and_keeps_the_place() -> None:
    rig = Rig()
    rig.credit(total=1)
    first = rig.submit_one()
    second = rig.submit_one()
    rig.core.outcomes.handed_back("r1", rig.lease(first), "NACK_BUSY", "a1", rig.now)
    rig.credit(total=2)

    assert [grant.task for grant in rig.grants()] == [first, first]
    assert (first.attempt, first.excluded) == (0, ("a1",))
    assert second.state is State.QUEUED


def test_a_task_that_agents_keep_declining_waits_instead_of_spinning() -> None:
    rig = Rig()
    task = rig.granted(terms=Terms(policy=RetryPolicy(initial_backoff_ms=1_000, jitter=0.0)))
    for n in range(4):
        rig.core.outcomes.handed_back("r1", rig.lease(task), "NACK_BUSY", f"a{n}", rig.now)
        rig.take()

    assert task.state is State.RETRY_WAIT
    assert (task.attempt, task.failures) == (0, 0)
    rig.advance(1.5)
    assert task.state is State.ASSIGNED


def test_handing_back_a_running_task_loses_the_attempt() -> None:
    rig = Rig()
    task = rig.running()
    rig.core.outcomes.handed_back("r1", rig.lease(task), "ROUTER_DRAINING", "a1", rig.now)
    rig.take()

    assert task.failures == 1


@pytest.mark.parametrize("epoch", [0, 2, 77])
def test_handing_back_a_lease_that_is_over_changes_nothing(epoch: int) -> None:
    rig = Rig()
    task = rig.granted()
    seq = rig.book.seq

    rig.core.outcomes.handed_back("r1", Lease(task.task_id, epoch), "NO_AGENT", "", rig.now)

    assert rig.book.seq == seq


def test_the_routers_measure_of_a_run_goes_before_ours_and_is_never_longer_than_the_task() -> None:
    rig = Rig()
    ran = {}
    for task_id, run_s in (("quick", 0.25), ("wrong", 99.0)):
        task = rig.granted()
        rig.advance(2.0)
        rig.start(task)
        rig.core.outcomes.completed(
            rig.router, rig.lease(task), "a1", b"\x12\x02ok", None, None, rig.now, run_s=run_s
        )
        rig.take()
        completed = rig.events[-1].detail
        assert isinstance(completed, Completed)
        ran[task_id] = completed.run_us

    assert ran == {"quick": 250_000, "wrong": 2_000_000}


def test_a_task_that_agents_die_of_before_they_can_say_so_spends_attempts_all_the_same() -> None:
    rig = Rig()
    task = rig.granted(terms=Terms(policy=RetryPolicy(max_retries=1, initial_backoff_ms=0)))
    died = 0
    while not task.ended and died < 10:
        died += 1
        lease = rig.lease(task)
        rig.core.outcomes.handed_back(rig.router, lease, "AGENT_GONE", f"a{died}", rig.now)
        rig.take()
        rig.advance(1.0)
        rig.grants()

    assert task.state is State.FAILED
    assert task.failure == AGENT_LOST
    assert (died, task.failures) == (4, 2)
