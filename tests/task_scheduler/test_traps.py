"""What other queues got wrong in the field, each by the name under which it became known."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from services.task_scheduler.core.event import Terms
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.queue import AGEING_SHARE, FORGOTTEN, FORGOTTEN_SHARE
from services.task_scheduler.core.retry import RetryPolicy
from services.task_scheduler.core.states import Kind, State
from services.task_scheduler.core.task import Task
from tests.task_scheduler.fleet import Fleet, jain, overtaken
from tests.task_scheduler.rig import Rig, created

LENGTHS_S = {"short": 1.0, "middle": 5.0, "long": 20.0}


def by_tenant(task: Task) -> float:
    return LENGTHS_S[task.tenant]


def keep_waiting(rig: Rig, count: int, **options: object) -> Callable[[], None]:
    """Return what keeps each tenant's backlog from running out."""

    def refill() -> None:
        for name in LENGTHS_S:
            tenant = rig.book.queue.shares.find(name)
            missing = count - (tenant.waiting if tenant is not None else 0)
            if missing > 0:
                rig.submit(*[created(tenant=name, **options) for _ in range(missing)])

    refill()
    return refill


def test_starvation_the_lowest_priority_waits_no_longer_than_the_stated_bound() -> None:
    ageing_s, slots, length_s = 10.0, 4, 1.0
    rig = Rig(Limits(ageing_s=ageing_s))
    low = rig.submit(*[created(terms=Terms(priority=0)) for _ in range(20)])

    def refill() -> None:
        if rig.book.queue.ages(rig.now.mono_s).get(9, (0, 0.0))[0] < 10:
            rig.submit(*[created(terms=Terms(priority=9)) for _ in range(20)])

    refill()
    fleet = Fleet(rig, slots, lambda task: length_s)
    fleet.run(120.0, refill)

    waited = {task.task_id: wait_s for task, wait_s in fleet.waits_s}
    # After ageing_s, every fourth grant goes to the oldest; four slots make four grants a second.
    bound_s = ageing_s + len(low) * AGEING_SHARE * length_s / slots + 1
    assert max(waited[task_id] for task_id in low) <= bound_s
    assert min(waited[task_id] for task_id in low) > ageing_s


def test_starvation_a_tenant_that_has_used_much_waits_no_longer_than_the_bound_either() -> None:
    ageing_s, slots, patient_len = 10.0, 4, 16
    rig = Rig(Limits(ageing_s=ageing_s))
    rig.submit(*[created(tenant="long", terms=Terms(priority=0)) for _ in range(slots)])
    fleet = Fleet(rig, slots, lambda task: 100.0 if task.tenant == "long" else 1.0)

    def refill() -> None:
        if rig.book.queue.ages(rig.now.mono_s).get(9, (0, 0.0))[0] < 10:
            rig.submit(*[created(terms=Terms(priority=9)) for _ in range(20)])
        patient = rig.book.queue.shares.find("patient")
        missing = patient_len - (patient.waiting if patient is not None else 0)
        rig.submit(
            *[created(tenant="patient", terms=Terms(priority=0)) for _ in range(max(1, missing))]
        )

    fleet.run(100.0, refill)
    ahead = rig.book.queue.ages(rig.now.mono_s)[0][0]
    late = rig.submit_one(tenant="long", terms=Terms(priority=0))
    fleet.run(200.0, refill)

    wait_s = next(wait_s for task, wait_s in fleet.waits_s if task is late)
    assert overtaken(fleet, FORGOTTEN * ageing_s)[late.task_id] <= FORGOTTEN_SHARE * (ahead + 1)
    # Four slots make four grants a second.
    assert wait_s <= FORGOTTEN * ageing_s + FORGOTTEN_SHARE * (ahead + 1) / slots + 1


def test_starvation_a_far_deadline_in_the_lowest_priority_does_not_wait_for_it() -> None:
    rig = Rig(Limits(ageing_s=10.0))
    week_ms = 7 * 24 * 3600 * 1000
    deadline_ms = rig.now.wall_ms + week_ms
    task = rig.submit_one(terms=Terms(priority=0, deadline_ms=deadline_ms))

    def refill() -> None:
        rig.submit(created(terms=Terms(priority=9)))

    for _ in range(20):
        refill()
    fleet = Fleet(rig, 1, lambda task: 1.0)
    fleet.run(30.0, refill)

    assert task.state is not State.QUEUED


@pytest.mark.parametrize("restart", [False, True])
def test_tenants_get_equal_agent_seconds_whatever_the_length_of_their_tasks(
    restart: bool,
) -> None:
    rig = Rig()
    refill = keep_waiting(rig, 30)
    fleet = Fleet(rig, 8, by_tenant)
    fleet.run(500.0, refill)
    used_s = fleet.used_s
    if restart:
        rig = rig.restarted()
        rig.core.start(rig.now)
        rig.core.dispatch.open("r1", [], rig.now)
        fleet = Fleet(rig, 8, by_tenant)
        fleet.run(500.0, keep_waiting(rig, 30))
        used_s += fleet.used_s
    else:
        fleet.run(500.0, refill)

    assert jain([used_s[name] for name in LENGTHS_S]) >= 0.98


def test_weights_divide_agent_seconds() -> None:
    rig = Rig(Limits(tenant_weights={"long": 2.0, "short": 0.5}))
    refill = keep_waiting(rig, 30)
    fleet = Fleet(rig, 8, by_tenant)
    fleet.run(2_000.0, refill)

    weighted = [fleet.used_s["long"] / 2.0, fleet.used_s["middle"], fleet.used_s["short"] / 0.5]
    assert jain(weighted) >= 0.98


def test_a_tenant_with_a_great_backlog_does_not_hold_up_one_that_comes_later() -> None:
    rig = Rig()
    rig.submit(*[created(tenant="short") for _ in range(1_000)])
    fleet = Fleet(rig, 4, by_tenant)
    fleet.run(60.0)
    late = rig.submit(created(tenant="middle"))[0]
    fleet.run(2.0)

    assert rig.task(late).state is not State.QUEUED


def test_priority_on_stream_the_most_urgent_goes_first_on_the_push_path_too() -> None:
    rig = Rig()
    rig.credit("work", total=1)
    rig.grants()
    waiting = [rig.submit_one(terms=Terms(priority=priority)) for priority in (1, 9, 5, 9)]
    first, *rest = waiting
    assert first.state is State.ASSIGNED

    granted = []
    for total in range(2, 5):
        rig.credit("work", total=total)
        granted += [grant.task for grant in rig.grants()]

    assert [task.terms.priority for task in granted if task is not first] == [9, 9, 5]
    assert granted[-3:] == [rest[0], rest[2], rest[1]]


def test_backlog_bypass_what_is_pushed_never_overtakes_older_work_of_its_kind() -> None:
    rig = Rig()
    backlog = rig.submit(*[created() for _ in range(50)])
    rig.credit("work", total=0)
    granted = []
    for total in range(1, 101):
        fresh = rig.submit(created())
        rig.credit("work", total=total)
        granted += [grant.task.task_id for grant in rig.grants()]
        backlog += fresh

    assert granted == backlog[: len(granted)]


def test_cold_start_overadmit_a_key_holds_its_limit_across_a_restart() -> None:
    rig = Rig()
    terms = Terms(concurrency_keys=("gpu",), concurrency_limit=2)
    rig.submit(*[created(terms=terms) for _ in range(10)])
    rig.credit("work")
    assert len(rig.grants()) == 2

    again = rig.restarted()
    again.core.start(again.now)
    again.core.dispatch.open("r2", [], again.now)
    again.router = "r2"
    again.credit("work")

    assert again.grants() == []
    running = [t for t in again.book.tasks.values() if t.state is State.ASSIGNED]
    again.complete(again.lease(running[0]))
    assert len(again.grants()) == 1


def test_two_limits_each_holds_and_no_free_place_is_left_unused() -> None:
    rig = Rig(Limits(shared_concurrency_limits={"provider": 3}, concurrency_limits={"user:*": 1}))
    draw = random.Random(5)
    users = [f"user:{number}" for number in range(6)]
    rig.submit(
        *[
            created(terms=Terms(concurrency_keys=("provider", draw.choice(users))))
            for _ in range(200)
        ]
    )
    fleet = Fleet(rig, 10, lambda task: 1.0)
    fleet.run(100.0)

    assert fleet.peak.pop("provider") == 3
    assert set(fleet.peak.values()) == {1}
    assert {task.state for task in rig.book.tasks.values()} == {State.COMPLETED}
    # 200 tasks, three at a time: hardly longer than that when users take turns.
    assert max(wait_s for _, wait_s in fleet.waits_s) <= 200 / 3 + 12


def test_dlq_loss_every_exhausted_task_is_a_dead_letter_after_any_restart() -> None:
    rig = Rig()
    terms = Terms(policy=RetryPolicy(1, 100, jitter=0.0))
    ids = rig.submit(*[created(terms=terms)] * 20)
    exhausted = []
    for last in (False, True):
        for number, task_id in enumerate(ids):
            if number % 5 == 0:
                rig = killed(rig)
            rig.credit("work")
            task = rig.task(task_id)
            rig.start(task)
            rig.fail(rig.lease(task))
            if last:
                exhausted.append(task_id)
            assert list(rig.book.dead) == exhausted
        rig.advance(1)

    rig = killed(rig)
    assert list(rig.book.dead) == exhausted == ids


def killed(rig: Rig) -> Rig:
    """Return a core that has taken over after a kill, with the router back."""
    again = rig.restarted()
    again.core.start(again.now)
    held = [rig.lease(task) for task in rig.book.leases.values()]
    again.core.dispatch.open("r1", held, again.now)
    again.take()
    return again


def test_submit_crash_a_repeat_after_a_crash_makes_no_second_task() -> None:
    rig = Rig()
    draft = created(request_id="order-7", spec_hash=b"hash")
    first = rig.submit(draft)

    again = rig.restarted()
    again.core.start(again.now)

    assert again.submit(draft) == first
    assert again.kinds().count(Kind.CREATED) == 1
