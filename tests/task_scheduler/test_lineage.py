from __future__ import annotations

from collections.abc import Callable

import pytest

from services.kernel.errors import FailedPrecondition, NotFound, PodiumError, ResourceExhausted
from services.task_scheduler.adapters.plain import pack, unpack
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.states import State
from services.task_scheduler.core.task import Task
from tests.task_scheduler.rig import Rig, created, facts
from tests.task_scheduler.test_snapshot import packed, restored


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


def dead(rig: Rig, task: Task) -> Task:
    """Let a task fail for good."""
    while not task.lease_epoch:
        rig.credit("work")
        rig.grants()
    rig.start(task)
    rig.fail(rig.lease(task), retryable=False)
    return task


def done(rig: Rig, task: Task) -> Task:
    while not task.lease_epoch:
        rig.credit("work")
        rig.grants()
    rig.complete(rig.lease(task))
    return task


def chain(rig: Rig, length: int) -> list[Task]:
    tasks = [rig.submit_one()]
    for _ in range(length - 1):
        tasks.append(child(rig, tasks[-1]))
    return tasks


def through_a_snapshot(rig: Rig) -> Rig:
    return restored(rig, packed(rig))


@pytest.mark.parametrize("again", [lambda rig: rig, Rig.restarted, through_a_snapshot])
def test_a_cancel_reaches_those_below_tasks_that_have_ended(again: Callable[[Rig], Rig]) -> None:
    # None of the three between is in memory any more when the first is canceled.
    rig = Rig(Limits(ended_len_max=0))
    root, *between, last = chain(rig, 5)
    beside = child(rig, between[0])
    for task in between:
        done(rig, task)
    rig.advance(0.5)
    assert set(rig.book.tasks) == {root.task_id, last.task_id, beside.task_id}

    rig = again(rig)
    root = rig.task(root.task_id)
    rig.core.control.cancel(root, "", rig.now)

    assert rig.core.control.cancel_descendants(root, rig.now) == 2
    assert {rig.task(t.task_id).state for t in (last, beside)} == {State.CANCELED}
    assert (rig.book.lineages.links(), len(rig.book.lineages)) == ({}, 0)


def test_a_task_that_has_ended_passes_a_cancel_on_too() -> None:
    rig = Rig()
    _, middle, last = chain(rig, 3)
    done(rig, middle)

    assert not rig.core.control.cancel(middle, "", rig.now)
    assert rig.core.control.cancel_descendants(middle, rig.now) == 1
    assert last.state is State.CANCELED


def test_of_tasks_that_have_ended_nothing_is_kept_that_joins_nobody() -> None:
    rig = Rig(Limits(lineage_tasks_max=100))
    root, first, second, third = chain(rig, 4)
    for task in (first, second):
        done(rig, task)
    assert rig.book.lineages.links() == {
        first.task_id: root.task_id,
        second.task_id: first.task_id,
    }
    for _ in range(20):
        done(rig, child(rig, third))
    assert len(rig.book.lineages.links()) == 2

    done(rig, third)

    assert rig.book.lineages.links() == {}
    # All that have descended are counted as before.
    assert rig.book.lineages.total(root.task_id) == 23


@pytest.mark.parametrize("again", [lambda rig: rig, Rig.restarted, through_a_snapshot])
def test_a_dead_letter_comes_back_to_its_place(again: Callable[[Rig], Rig]) -> None:
    rig = Rig(Limits(ended_len_max=0))
    root, middle, last = chain(rig, 3)
    dead(rig, last)
    done(rig, middle)
    rig.advance(0.5)

    rig = again(rig)
    root, last = rig.task(root.task_id), rig.task(last.task_id)
    assert rig.book.lineages.descendants(root.task_id) == []
    rig.core.control.requeue(last, None, rig.now)

    assert rig.book.lineages.descendants(root.task_id) == [last]
    assert rig.book.lineages.total(root.task_id) == 2


def test_with_a_dead_letter_that_is_dropped_what_was_kept_for_it_goes() -> None:
    rig = Rig(Limits(dead_len_max=0))
    _, middle, last = chain(rig, 3)
    dead(rig, last)
    done(rig, middle)
    assert list(rig.book.lineages.links()) == [middle.task_id]

    rig.advance(0.5)

    assert rig.book.lineages.links() == {}


def test_one_that_is_revived_after_its_lineage_begins_the_count_anew() -> None:
    rig = Rig(Limits(lineage_tasks_max=2))
    root, last = chain(rig, 2)
    dead(rig, last)
    done(rig, root)
    assert len(rig.book.lineages) == 0

    rig.core.control.requeue(last, None, rig.now)

    assert rig.book.lineages.total(root.task_id) == 1
    child(rig, last)
    with pytest.raises(ResourceExhausted):
        child(rig, last)


def test_a_snapshot_of_a_version_without_links_gives_those_of_the_tasks_in_memory() -> None:
    rig = Rig()
    root, *between, _ = chain(rig, 5)
    for task in between:
        done(rig, task)
    head, *rest = [unpack(part) for part in packed(rig)]
    del head["links"]

    again = restored(rig, [pack(part) for part in (head, *rest)])

    assert again.book.lineages.links() == rig.book.lineages.links()
    assert len(again.book.lineages.descendants(root.task_id)) == 1
