"""Epochs are consecutive, so anybody can name a lease: only who was given it may use it."""

from __future__ import annotations

import pytest

from services.task_scheduler.core.event import Progress
from services.task_scheduler.core.orders import Revoke, Verdict, Verdicts
from services.task_scheduler.core.states import Kind, State
from tests.task_scheduler.rig import Rig


def test_nobody_brings_the_lease_of_another_agent() -> None:
    rig = Rig()
    task = rig.running("a1")
    lease = rig.lease(task)
    rig.core.dispatch.open("r2", [], rig.now)
    rig.take()
    rig.orders.clear()

    rig.core.dispatch.claimed("r2", "thief", [lease], rig.now)
    rig.take()
    rig.core.control.cancel(task, "", rig.now)
    rig.take()

    assert rig.orders == [
        ("r2", Verdicts("thief", ((lease, Verdict.LOST),))),
        # Whoever has it goes on hearing of it.
        ("r1", Revoke(lease, "CANCELED")),
    ]


def test_what_was_granted_to_a_router_that_is_there_is_not_claimed_through_another() -> None:
    rig = Rig()
    task = rig.granted()
    lease = rig.lease(task)
    rig.core.dispatch.open("r2", [], rig.now)
    rig.take()
    rig.orders.clear()

    rig.core.dispatch.claimed("r2", "thief", [lease], rig.now)
    rig.take()
    assert rig.orders == [("r2", Verdicts("thief", ((lease, Verdict.LOST),)))]

    # Once it is gone, only the agent can tell.
    rig.core.dispatch.close("r1", rig.now)
    rig.core.dispatch.claimed("r2", "a1", [lease], rig.now)
    rig.take()
    assert rig.orders[-1] == ("r2", Verdicts("a1", ((lease, Verdict.KEEP),)))


@pytest.mark.parametrize("report", ["started", "progressed", "completed"])
def test_what_was_granted_to_one_router_is_not_begun_or_ended_by_another(report: str) -> None:
    rig = Rig()
    task = rig.granted()
    rig.core.dispatch.open("r2", [], rig.now)
    outcomes, lease = rig.core.outcomes, rig.lease(task)

    def told(router_id: str, agent_id: str) -> None:
        if report == "started":
            outcomes.started(router_id, lease, agent_id, b"", rig.now)
        elif report == "progressed":
            progress = Progress(0.5, "", b"", None, b"", 1)
            outcomes.progressed(router_id, lease, agent_id, progress, rig.now)
        else:
            outcomes.completed(router_id, lease, agent_id, b"\x12\x02ok", None, None, rig.now)
        rig.take()

    told("r2", "thief")
    assert task.state is State.ASSIGNED

    told("r1", "a1")
    assert task.agent_id == "a1"


def test_progress_of_another_agent_is_told_that_the_lease_is_lost() -> None:
    rig = Rig()
    task = rig.running("a1")
    rig.orders.clear()

    progress = Progress(0.5, "", b"", None, b"", 1)
    rig.core.outcomes.progressed("r1", rig.lease(task), "a2", progress, rig.now)
    rig.take()

    assert rig.orders == [("r1", Verdicts("", ((rig.lease(task), Verdict.LOST),)))]
    assert Kind.PROGRESS not in rig.kinds(task)
