from __future__ import annotations

import pytest

from services.kernel.errors import FailedPrecondition, NotFound, PodiumError, ResourceExhausted
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.states import State
from services.task_scheduler.core.task import Task
from tests.task_scheduler.rig import Rig, created, facts


def child(rig: Rig, parent: Task, **options: object) -> Task:
    return rig.submit_one(parent=parent.task_id, **options)


def test_a_child_knows_where_it_comes_from() -> None:
    rig = Rig()
    root = rig.submit_one()
    grandchild = child(rig, child(rig, root))

    assert (grandchild.origin.root_task_id, grandchild.origin.depth) == (root.task_id, 2)
    assert root.origin.depth == 0
    assert facts(rig.restarted().core) == facts(rig.core)


@pytest.mark.parametrize(
    ("limits", "depth", "width"),
    [(Limits(lineage_depth_max=3), 4, 1), (Limits(lineage_tasks_max=5), 1, 6)],
)
def test_a_lineage_has_a_budget_of_generations_and_of_tasks(
    limits: Limits, depth: int, width: int
) -> None:
    rig = Rig(limits)
    parent = rig.submit_one()
    for _ in range(depth - 1):
        parent = child(rig, parent)
    for _ in range(width - 1):
        child(rig, parent)

    with pytest.raises(ResourceExhausted) as refused:
        child(rig, parent)
    assert refused.value.reason == "LINEAGE_BUDGET"


def test_a_batch_cannot_slip_past_the_budget() -> None:
    rig = Rig(Limits(lineage_tasks_max=5))
    root = rig.submit_one()

    with pytest.raises(ResourceExhausted):
        rig.submit(*[created(parent=root.task_id) for _ in range(6)])
    assert len(rig.book.tasks) == 1


def test_tasks_that_have_ended_count_until_the_whole_lineage_has() -> None:
    rig = Rig(Limits(lineage_tasks_max=2))
    root = rig.submit_one()
    for _ in range(2):
        rig.core.control.cancel(child(rig, root), "", rig.now)
    with pytest.raises(ResourceExhausted):
        child(rig, root)

    rig.core.control.cancel(root, "", rig.now)

    assert len(rig.book.lineages) == 0


def refusal(rig: Rig, parent: Task | str, **options: object) -> PodiumError:
    parent_id = parent if isinstance(parent, str) else parent.task_id
    with pytest.raises(PodiumError) as refused:
        rig.submit_one(parent=parent_id, **options)
    return refused.value


def test_a_parent_must_be_there_and_open_and_of_the_same_tenant() -> None:
    rig = Rig()
    ended, foreign = rig.submit_one(), rig.submit_one(tenant="other")
    rig.core.control.cancel(ended, "", rig.now)

    errors = [refusal(rig, "no-such-task"), refusal(rig, foreign), refusal(rig, ended)]

    assert [(type(error), error.reason) for error in errors] == [
        (NotFound, "PARENT_NOT_FOUND"),
        (NotFound, "PARENT_NOT_FOUND"),
        (FailedPrecondition, "PARENT_ENDED"),
    ]


def test_who_is_canceled_takes_the_descendants_along() -> None:
    rig = Rig()
    root = rig.submit_one()
    one, two = child(rig, root), child(rig, root)
    grandchild = child(rig, one)
    rig.core.control.cancel(two, "", rig.now)
    bystander = rig.submit_one()

    rig.core.control.cancel(root, "", rig.now)
    assert rig.core.control.cancel_descendants(root, rig.now) == 2

    assert [t.state for t in (one, grandchild)] == [State.CANCELED] * 2
    assert bystander.state is State.QUEUED
    assert root.task_id in grandchild.failure.message
    assert rig.book.lineages.descendants(root.task_id) == []


def test_a_revived_child_is_counted_again() -> None:
    rig = Rig()
    root = rig.submit_one()
    task = child(rig, root)
    rig.credit("work")
    rig.grants()
    rig.start(task)
    rig.fail(rig.lease(task), retryable=False)
    rig.core.control.requeue(task, None, rig.now)

    assert rig.book.lineages.descendants(root.task_id) == [task]
    assert rig.book.lineages.total(root.task_id) == 1
