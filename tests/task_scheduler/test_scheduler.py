from __future__ import annotations

import pytest

from services.kernel.instant import Instant
from services.task_scheduler.core.event import Terms
from services.task_scheduler.core.states import Kind, State
from tests.task_scheduler.rig import START, Rig, created, facts


def test_a_delayed_task_is_queued_when_its_time_has_come() -> None:
    rig = Rig()
    task = rig.submit_one(terms=Terms(not_before_ms=START.wall_ms + 2_000))

    rig.advance(1.9)
    assert task.state is State.CREATED
    rig.advance(0.5)
    assert rig.kinds(task) == [Kind.CREATED, Kind.QUEUED]


def test_taking_over_a_log_is_written_into_it() -> None:
    rig = Rig()
    again = rig.restarted()
    again.core.start(again.now)
    again.take()

    assert [e.seq for e in again.events if e.kind is Kind.EPOCH_BEGUN] == [1, 2]


def test_timers_go_on_after_a_restart_by_wall_time() -> None:
    rig = Rig()
    delayed = rig.submit_one(terms=Terms(not_before_ms=START.wall_ms + 60_000))
    expiring = rig.submit_one(terms=Terms(deadline_ms=START.wall_ms + 60_000))

    again = rig.restarted(down_s=30.0)
    again.core.start(again.now)
    again.advance(29.0)
    assert again.task(delayed.task_id).state is State.CREATED
    again.advance(2.0)

    assert again.task(delayed.task_id).state is State.QUEUED
    assert again.task(expiring.task_id).state is State.EXPIRED


def test_what_became_due_while_it_was_down_happens_at_once() -> None:
    rig = Rig()
    task = rig.submit_one(terms=Terms(deadline_ms=START.wall_ms + 10_000))

    again = rig.restarted(down_s=3_600.0)
    again.core.start(again.now)
    again.advance(0.1)

    assert again.task(task.task_id).state is State.EXPIRED


@pytest.mark.parametrize("restart", [False, True])
def test_nothing_is_granted_after_its_deadline_though_no_tick_has_come(restart: bool) -> None:
    rig = Rig()
    late = rig.submit_one(terms=Terms(deadline_ms=START.wall_ms + 10_000))
    ready = rig.submit_one(terms=Terms(not_before_ms=START.wall_ms + 10_000))
    if restart:
        rig = rig.restarted(down_s=3_600.0)
        rig.core.start(rig.now)
        rig.core.dispatch.open("r1", [], rig.now)
    else:
        rig.now = Instant(rig.now.mono_s + 11.0, rig.now.wall_ms + 11_000)
    rig.credit()

    assert [grant.task.task_id for grant in rig.grants()] == [ready.task_id]
    assert rig.task(late.task_id).state is State.EXPIRED


def test_order_holds_after_a_restart() -> None:
    rig = Rig()
    made = rig.submit(
        created(terms=Terms(priority=1)),
        created(terms=Terms(priority=8)),
        created(),
        created(terms=Terms(priority=8)),
    )
    again = rig.restarted()
    again.core.start(again.now)
    again.core.dispatch.open("r1", [], again.now)
    again.credit()

    assert [grant.task.task_id for grant in again.grants()] == [
        made[1],
        made[3],
        made[2],
        made[0],
    ]


def test_twenty_restarts_change_nothing() -> None:
    rig = Rig()
    rig.running()
    rig.submit_one("other")
    before = facts(rig.core)
    for _ in range(20):
        rig = rig.restarted()

    assert facts(rig.core) == before


def test_a_step_is_taken_once() -> None:
    rig = Rig()
    rig.submit_one()
    step = rig.core.take(rig.now)

    assert (step.events, step.orders) == ([], [])
