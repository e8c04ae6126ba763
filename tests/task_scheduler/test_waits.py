from __future__ import annotations

import pytest

from services.task_scheduler.core import catalog
from services.task_scheduler.core.event import Terms
from services.task_scheduler.core.task import SHOWN_BLOCKED, Task
from tests.task_scheduler.rig import START, Rig, created

FAR = Terms(not_before_ms=START.wall_ms + 3_600_000)


def blocked_by(rig: Rig, other: Task, count: int) -> list[Task]:
    drafts = [created("later", depends_on=[other.task_id]) for _ in range(count)]
    return [rig.task(task_id) for task_id in rig.submit(*drafts)]


def shown_as_blocked(rig: Rig) -> int:
    return dict(catalog.counts(rig.book)).get(SHOWN_BLOCKED, 0)


@pytest.mark.parametrize("end", ["cancel", "expire"])
def test_who_has_ended_is_not_kept_by_what_it_waited_for(end: str) -> None:
    rig = Rig()
    first, second = rig.submit_one(terms=FAR), rig.submit_one(terms=FAR)
    task = rig.submit_one(
        depends_on=[first.task_id, second.task_id],
        terms=Terms(deadline_ms=START.wall_ms + 1_000),
    )
    stays = blocked_by(rig, first, 1)[0]
    if end == "cancel":
        rig.core.control.cancel(task, "", rig.now)
    else:
        rig.advance(2.0)

    assert task.ended
    assert (task.open_dependencies, rig.book.waits.plain()) == (0, {first.task_id: [stays.task_id]})


def test_how_many_are_blocked_is_known_through_all_that_happens_to_them() -> None:
    rig = Rig()
    first = rig.submit_one(terms=FAR)
    tasks = blocked_by(rig, first, 4)
    assert shown_as_blocked(rig) == 4

    control = rig.core.control
    control.pause(tasks[0], "", rig.now)
    assert shown_as_blocked(rig) == 3
    control.resume(tasks[0], rig.now)
    control.cancel(tasks[1], "", rig.now)
    assert shown_as_blocked(rig) == 3
    control.cancel(first, "", rig.now)
    assert shown_as_blocked(rig) == 0
