from __future__ import annotations

from services.task_scheduler.core.mercy import leases_len_min
from services.task_scheduler.core.states import State
from tests.task_scheduler.rig import Rig


def test_when_most_leases_run_out_at_once_they_get_another_time_once() -> None:
    rig = Rig()
    tasks = [rig.running() for _ in range(leases_len_min)]

    rig.advance(35.0)
    assert all(task.state is State.RUNNING for task in tasks)
    assert rig.core.dispatch.mercy.count == 1
    rig.advance(30.0)
    assert all(task.attempt == 1 and task.failures == 1 for task in tasks)


def test_leases_that_were_renewed_at_different_moments_run_out_together_all_the_same() -> None:
    rig = Rig()
    tasks = [rig.running() for _ in range(2 * leases_len_min)]
    dead = rig.running("a2")
    for task in tasks:
        rig.advance(0.3)
        rig.core.dispatch.renewed("r1", [rig.lease(task)], rig.now)

    # The router stands still for a lease time and a half.
    rig.advance(45.0)
    for task in tasks:
        rig.core.dispatch.renewed("r1", [rig.lease(task)], rig.now)

    assert all(task.state is State.RUNNING and not task.failures for task in tasks)
    assert dead.failures == 0, "it is not known for dead among so many"
    rig.advance(20.0)
    assert dead.failures == 1


def test_the_leases_of_one_router_that_stands_still_are_judged_apart_from_those_of_others() -> None:
    rig = Rig()
    frozen = [rig.running() for _ in range(leases_len_min)]
    rig.core.dispatch.open("r2", [], rig.now)
    rig.credit(total=0)
    rig.credit(router="r2")
    beating = [rig.submit_one() for _ in range(3 * leases_len_min)]
    assert {task.router_id for task in beating} == {"r2"}
    for task in beating:
        rig.core.outcomes.started("r2", rig.lease(task), "a2", b"", rig.now)
    for _ in range(5):
        rig.advance(8.0)
        leases = [rig.lease(task) for task in beating]
        rig.core.dispatch.renewed("r2", leases, rig.now)

    assert not any(task.failures for task in (*frozen, *beating))
    rig.advance(25.0)
    assert all(task.failures for task in frozen)
