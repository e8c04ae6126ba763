from __future__ import annotations

import pytest

from services.kernel.instant import Instant
from services.task_scheduler.core.event import Terms
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.orders import Revoke, Settlement, Verdict, Verdicts, Welcome
from services.task_scheduler.core.retry import RetryPolicy
from services.task_scheduler.core.states import Kind, State
from services.task_scheduler.core.task import Lease
from tests.task_scheduler.rig import START, Rig, created


def test_grants_follow_credits() -> None:
    rig = Rig()
    rig.submit(*[created() for _ in range(5)])

    rig.credit(total=2)
    assert len(rig.grants()) == 2
    rig.credit(total=2)
    assert rig.grants() == []
    rig.credit(total=4)
    assert len(rig.grants()) == 2


def test_a_credit_that_falls_takes_nothing_back_and_gives_nothing_more() -> None:
    rig = Rig()
    rig.credit(total=3)
    rig.submit(created())
    rig.credit(total=1)
    rig.submit(created())

    assert len(rig.grants()) == 1


def test_a_grant_shares_the_step_of_its_submit() -> None:
    rig = Rig()
    rig.credit()
    task = rig.submit_one()

    assert rig.kinds(task) == [Kind.CREATED, Kind.QUEUED, Kind.ASSIGNED]


def test_lease_epochs_grow_over_all_tasks_and_across_restarts() -> None:
    rig = Rig()
    rig.credit()
    rig.submit(created(), created())
    epochs = [grant.lease_epoch for grant in rig.grants()]

    again = rig.restarted()
    again.core.start(again.now)
    again.core.dispatch.open("r1", [], again.now)
    again.credit()
    again.submit(created())
    later = [grant.lease_epoch for grant in again.grants()]

    assert epochs == [1, 2]
    assert min(later) > 2
    assert len(set(later)) == len(later)


def test_classes_share_the_queue_in_turn() -> None:
    rig = Rig()
    rig.credit("work", total=10, class_id=1)
    rig.core.dispatch.credit("r1", 2, ["work", "more"], 10, 1)
    rig.submit(*[created() for _ in range(6)])

    assert [grant.class_id for grant in rig.grants()] == [1, 2, 1, 2, 1, 2]


def test_a_task_goes_to_a_class_that_has_all_it_needs() -> None:
    rig = Rig()
    rig.credit("a", class_id=1)
    rig.core.dispatch.credit("r1", 2, ["a", "b"], 10, 1)
    task = rig.submit_one(needs=["a", "b"])

    assert [(grant.task, grant.class_id) for grant in rig.grants()] == [(task, 2)]


def test_renewed_leases_live_and_others_run_out() -> None:
    rig = Rig()
    kept, lost = rig.running(), rig.running()
    lease = rig.lease(kept)
    for _ in range(4):
        rig.advance(10.0)
        rig.core.dispatch.renewed("r1", [lease], rig.now)

    assert kept.state is State.RUNNING
    assert Kind.ATTEMPT_FAILED in rig.kinds(lost)
    assert rig.said(Revoke)[0].reason == "LEASE_EXPIRED"
    assert rig.said(Revoke)[0].lease.task_id == lost.task_id


def test_a_lease_runs_out_after_its_time_and_within_a_second_of_it() -> None:
    rig = Rig()
    task = rig.running()

    rig.advance(29.9)
    assert task.state is State.RUNNING
    rig.advance(1.0)
    assert task.state is not State.RUNNING


@pytest.mark.parametrize("first", ["the result", "the clock"])
@pytest.mark.parametrize("off_ms", [-1, 0, 1])
def test_f11_of_completion_and_expiry_the_first_in_the_log_wins(off_ms: int, first: str) -> None:
    rig = Rig()
    task = rig.running(terms=Terms(policy=RetryPolicy(0)))
    lease = rig.lease(task)
    for _ in range(30):
        rig.advance(1.0, step_s=1.0)
    rig.now = Instant(START.mono_s + 30.0 + off_ms / 1e3, START.wall_ms + 30_000 + off_ms)

    if first == "the clock":
        rig.core.tick(rig.now)
    rig.complete(lease)
    rig.core.tick(rig.now)
    rig.take()
    rig.advance(5.0)

    # A lease has its whole time: it is over after it, not at it.
    lost = first == "the clock" and off_ms > 0
    ends = [kind for kind in rig.kinds(task) if kind in (Kind.COMPLETED, Kind.FAILED)]
    assert ends == [Kind.FAILED if lost else Kind.COMPLETED]
    assert rig.settlements() == [Settlement.FENCED if lost else Settlement.ACCEPTED]


def test_a_grant_that_no_agent_took_runs_out_without_an_attempt() -> None:
    rig = Rig()
    task = rig.granted()

    rig.advance(31.0)

    assert rig.kinds(task)[3:5] == [Kind.HANDED_BACK, Kind.ASSIGNED]
    assert task.attempt == 0


def test_renewals_of_dead_leases_are_told_so() -> None:
    rig = Rig()
    canceled, done = rig.running(), rig.running()
    leases = [rig.lease(canceled), rig.lease(done), Lease("00-none", 99)]
    rig.core.control.cancel(canceled, "", rig.now)
    rig.complete(leases[1])
    rig.take()
    rig.orders.clear()

    rig.core.dispatch.renewed("r1", leases, rig.now)
    rig.take()

    assert rig.said(Verdicts) == [
        Verdicts(
            "",
            (
                (leases[0], Verdict.CANCEL),
                (leases[1], Verdict.LOST),
                (leases[2], Verdict.LOST),
            ),
        )
    ]


def test_a_lease_of_another_task_is_not_renewed_by_its_epoch() -> None:
    rig = Rig()
    task = rig.running()

    rig.core.dispatch.renewed("r1", [Lease("00-other", task.lease_epoch)], rig.now)
    rig.take()

    assert rig.said(Verdicts)[0].verdicts[0][1] is Verdict.LOST


def test_an_agent_brings_its_lease_to_another_router() -> None:
    rig = Rig()
    task = rig.running()
    lease = rig.lease(task)
    rig.core.dispatch.close("r1", rig.now)
    rig.core.dispatch.open("r2", [], rig.now)
    rig.take()
    rig.orders.clear()

    rig.core.dispatch.claimed("r2", "a1", [lease], rig.now)
    rig.take()
    rig.advance(20.0)
    rig.core.control.cancel(task, "", rig.now)
    rig.take()

    assert rig.orders == [
        ("r2", Verdicts("a1", ((lease, Verdict.KEEP),))),
        ("r2", Revoke(lease, "CANCELED")),
    ]


def test_a_router_that_comes_back_keeps_what_it_holds() -> None:
    rig = Rig()
    held, lost = rig.granted(), rig.granted()
    lease = rig.lease(held)
    rig.core.dispatch.close("r1", rig.now)

    rig.core.dispatch.open("r1", [lease], rig.now)
    rig.take()

    assert rig.orders == [("r1", Welcome(((lease, Verdict.KEEP),), 30.0))]
    assert held.state is State.ASSIGNED
    # What it does not know of was lost on the way to it.
    assert rig.kinds(lost)[-1] is Kind.HANDED_BACK
    assert lost.attempt == 0


def test_grants_of_a_lost_router_go_back_after_a_grace_and_running_tasks_stay() -> None:
    rig = Rig(Limits(router_grace_s=5.0))
    running, granted = rig.running(), rig.granted()
    rig.core.dispatch.close("r1", rig.now)

    rig.advance(4.5)
    assert granted.state is State.ASSIGNED
    rig.advance(1.0)
    assert granted.state is State.QUEUED
    assert running.state is State.RUNNING


@pytest.mark.parametrize(
    ("ran_s", "down_s", "left_s"),
    [
        pytest.param(2.0, 3.0, 25.0, id="what the log tells"),
        pytest.param(25.0, 0.0, 20.0, id="renewals are not in the log"),
        pytest.param(2.0, 600.0, 20.0, id="while it was down nobody could renew"),
        pytest.param(2.0, -3_600.0, 30.0, id="the wall clock was set back"),
    ],
)
def test_after_a_restart_a_lease_has_the_time_that_was_left_of_it(
    ran_s: float, down_s: float, left_s: float
) -> None:
    rig = Rig()
    task = rig.running()
    rig.advance(ran_s)

    again = rig.restarted(down_s=down_s)
    again.core.start(again.now)
    revived = again.task(task.task_id)
    again.advance(left_s - 0.5)
    assert (revived.state, revived.attempt, revived.failures) == (State.RUNNING, 1, 0)
    again.advance(1.5)
    assert revived.failures == 1


def test_whoever_renews_in_time_keeps_its_lease_over_any_number_of_restarts() -> None:
    rig = Rig()
    task = rig.running()
    lease = rig.lease(task)
    for _ in range(20):
        rig.advance(9.0)
        rig = rig.restarted(down_s=5.0)
        rig.core.start(rig.now)
        rig.take()
        rig.advance(9.0)
        rig.core.dispatch.open("r1", [lease], rig.now)

    rig.complete(lease)
    revived = rig.task(task.task_id)
    assert (revived.state, revived.attempt, revived.failures) == (State.COMPLETED, 1, 0)


def test_after_a_restart_leases_run_out_in_the_order_of_their_time() -> None:
    rig = Rig()
    early, late = rig.running(), rig.granted()
    rig.advance(8.0)
    rig.start(late)

    again = rig.restarted()
    again.core.start(again.now)

    assert [one.task_id for one in again.book.leases.values()] == [early.task_id, late.task_id]
    again.advance(23.5)
    assert again.task(early.task_id).state is not State.RUNNING
    assert again.task(late.task_id).state is State.RUNNING


def test_a_router_that_never_returns_after_a_restart_does_not_keep_its_grants() -> None:
    rig = Rig()
    task = rig.granted()
    again = rig.restarted()
    again.core.start(again.now)

    again.advance(32.0)

    assert again.task(task.task_id).state is State.QUEUED


def test_time_in_which_this_process_was_held_up_counts_for_no_lease() -> None:
    rig = Rig()
    task = rig.running()
    rig.advance(1.0)

    rig.now = Instant(rig.now.mono_s + 300.0, rig.now.wall_ms + 300_000)
    rig.core.tick(rig.now)
    rig.take()

    assert task.state is State.RUNNING
    rig.advance(32.0)
    assert task.state is not State.RUNNING


def test_wall_clock_jumps_end_no_lease() -> None:
    rig = Rig()
    task = rig.running()
    for hours in (1, -1, 3):
        rig.now = Instant(rig.now.mono_s + 1, rig.now.wall_ms + hours * 3_600_000)
        rig.core.tick(rig.now)
    rig.take()

    assert task.state is State.RUNNING


def test_a_task_avoids_agents_and_prefers_the_one_that_has_its_key() -> None:
    rig = Rig()
    terms = Terms(sticky_key="k")
    first = rig.running("a7", terms=terms)
    rig.complete(rig.lease(first), "a7")

    rig.submit(created(terms=terms))

    assert rig.grants()[0].sticky_agent_id == "a7"


def test_a_class_without_agents_makes_nothing_schedulable() -> None:
    rig = Rig()
    rig.credit("gpu", agents=1)
    assert rig.book.queue.schedulable(frozenset({"gpu"}))

    rig.credit("gpu", agents=0, total=0)
    assert not rig.book.queue.schedulable(frozenset({"gpu"}))


def test_a_class_without_agents_and_grants_to_take_costs_nothing_and_comes_back() -> None:
    rig = Rig()
    rig.credit("work", total=2)
    for agents, total in ((1, 1), (0, 0), (1, 1)):
        rig.credit("work", "rare", class_id=2, agents=agents, total=total)
        pools = [set(pool.capabilities) for pool in rig.book.queue._pools.values()]
        assert ({"work", "rare"} in pools) == bool(agents)
    rig.submit(*[created(needs=("rare",)) for _ in range(3)])
    (grant,) = rig.grants()
    rig.credit("work", "rare", class_id=2, agents=0, total=1)

    rig.complete(rig.lease(grant.task))
    rig.credit("work", "rare", class_id=2, total=2)

    assert len(rig.grants()) == 1, "what it was granted before counts"


def test_the_pools_of_a_lost_router_are_gone() -> None:
    rig = Rig()
    rig.credit("gpu")
    rig.core.dispatch.close("r1", rig.now)

    assert not rig.book.queue.schedulable(frozenset({"gpu"}))
    assert rig.core.dispatch.router_count == 0
    rig.core.dispatch.close("r1", rig.now)


@pytest.mark.parametrize("count", [1, 1_100])
def test_a_step_grants_a_bounded_number_and_says_when_there_is_more(count: int) -> None:
    rig = Rig()
    rig.submit(*[created() for _ in range(count)])
    rig.core.dispatch.credit("r1", 1, ["work"], 100_000, 1)

    assert len(rig.grants()) == min(count, 1_024)
    assert rig.core.more == (count > 1_024)


def test_a_tenth_of_the_look_ahead_is_kept_for_urgent_tasks() -> None:
    rig = Rig()
    rig.credit(total=120, ahead=100)
    rig.submit(*[created() for _ in range(200)])
    assert len(rig.grants()) == 110

    first = rig.submit_one(terms=Terms(priority=6))
    assert [grant.task.task_id for grant in rig.grants()] == [first.task_id]
    more = [rig.submit_one(terms=Terms(priority=9)).task_id for _ in range(20)]
    assert [grant.task.task_id for grant in rig.grants()] == more[:9]


def test_who_looks_ahead_little_keeps_nothing_for_urgent_tasks() -> None:
    rig = Rig()
    rig.credit(total=9, ahead=9)
    rig.submit(*[created() for _ in range(20)])

    assert len(rig.grants()) == 9


def test_an_urgent_task_that_agents_cannot_do_opens_nothing_to_others() -> None:
    rig = Rig()
    rig.credit(total=20, ahead=20)
    rig.submit(*[created() for _ in range(30)])
    assert len(rig.grants()) == 18
    rig.submit_one("other", terms=Terms(priority=9))

    assert rig.grants() == []
