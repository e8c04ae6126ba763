from __future__ import annotations

import pytest

from services.kernel.errors import NotFound
from services.task_scheduler.core.pauses import Pause, Pauses, Scope
from services.task_scheduler.core.states import State
from tests.task_scheduler.rig import Rig, created, facts


@pytest.mark.parametrize(
    ("scope", "held"),
    [
        (Scope("", "work"), {("red", "work"), ("blue", "work")}),
        (Scope("red", ""), {("red", "work"), ("red", "other")}),
        (Scope("red", "work"), {("red", "work")}),
    ],
)
def test_a_pause_holds_what_it_names(scope: Scope, held: set[tuple[str, str]]) -> None:
    pauses = Pauses()
    pauses.add(Pause(scope, "because", 1))
    pairs = [(tenant, kind) for tenant in ("red", "blue") for kind in ("work", "other")]

    assert {pair for pair in pairs if pauses.hold(*pair)} == held
    pauses.remove(scope)
    assert not any(pauses.hold(*pair) for pair in pairs)


def test_a_paused_type_is_not_granted_and_keeps_its_place() -> None:
    rig = Rig()
    first = rig.submit_one()
    rig.core.control.pause_queue("", "work", "maintenance", rig.now)
    second = rig.submit_one()
    other = rig.submit_one("other", needs=("work",))
    rig.credit("work")

    assert [grant.task for grant in rig.grants()] == [other]
    rig.core.control.resume_queue("", "work", rig.now)
    assert [grant.task for grant in rig.grants()] == [first, second]


def test_a_paused_tenant_does_not_hold_up_others() -> None:
    rig = Rig()
    rig.core.control.pause_queue("red", "", "", rig.now)
    held, free = rig.submit(created(tenant="red"), created(tenant="blue"))
    rig.credit("work")

    assert [grant.task.task_id for grant in rig.grants()] == [free]
    assert rig.task(held).state is State.QUEUED


def test_what_runs_goes_on() -> None:
    rig = Rig()
    task = rig.running()
    rig.core.control.pause_queue("", "work", "", rig.now)
    rig.complete(rig.lease(task))

    assert task.state is State.COMPLETED


def test_overlapping_pauses_end_one_by_one() -> None:
    rig = Rig()
    control = rig.core.control
    control.pause_queue("", "work", "", rig.now)
    control.pause_queue("default", "", "", rig.now)
    rig.submit_one()
    rig.credit("work")

    control.resume_queue("", "work", rig.now)
    assert rig.grants() == []
    control.resume_queue("default", "", rig.now)
    assert len(rig.grants()) == 1


def test_a_pause_holds_after_a_restart() -> None:
    rig = Rig()
    rig.submit_one()
    rig.core.control.pause_queue("", "work", "why", rig.now)
    rig.take()
    again = rig.restarted()

    assert facts(again.core) == facts(rig.core)
    again.core.start(again.now)
    again.core.dispatch.open("r1", [], again.now)
    again.credit("work")
    assert again.grants() == []


def test_a_pause_that_is_not_there_cannot_end() -> None:
    rig = Rig()

    with pytest.raises(NotFound) as refused:
        rig.core.control.resume_queue("", "work", rig.now)
    assert refused.value.reason == "PAUSE_NOT_FOUND"
