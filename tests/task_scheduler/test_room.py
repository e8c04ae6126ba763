from __future__ import annotations

import pytest

from services.kernel.errors import InvalidArgument, ResourceExhausted
from services.task_scheduler.core.event import Created, Terms
from services.task_scheduler.core.limits import Limits
from tests.task_scheduler.rig import Rig, created


def of(priority: int, count: int = 1) -> list[Created]:
    return [created(terms=Terms(priority=priority)) for _ in range(count)]


def full(most: int = 20) -> Rig:
    """A backlog whose room for ordinary tasks is used up."""
    rig = Rig(Limits(open_tasks_max=most))
    rig.submit(*of(5, most - most // 10))
    return rig


def test_the_last_tenth_of_the_backlog_is_kept_for_urgent_tasks() -> None:
    rig = full()

    with pytest.raises(ResourceExhausted) as refused:
        rig.submit(*of(5))

    assert refused.value.metadata["urgent_priority"] == "6"
    rig.submit(*of(6))
    rig.submit(*of(9))
    with pytest.raises(ResourceExhausted) as refused:
        rig.submit(*of(9))
    assert "urgent_priority" not in refused.value.metadata


def test_a_batch_with_ordinary_tasks_is_refused_whole_and_told_which_may_come_alone() -> None:
    rig = full()

    with pytest.raises(ResourceExhausted) as refused:
        rig.submit(*of(9), *of(0))

    assert refused.value.metadata["urgent_priority"] == "6"
    assert rig.book.open_tasks == 18


def test_the_bytes_of_the_backlog_have_a_tenth_for_urgent_tasks_too() -> None:
    rig = Rig(Limits(open_bytes_max=1_000))
    rig.submit(created(payload=b"p" * 200))
    large = created(payload=b"p" * 700)

    with pytest.raises(ResourceExhausted):
        rig.submit(large)

    rig.submit(large._replace(terms=Terms(priority=6)))


@pytest.mark.parametrize(
    ("limits", "batch"),
    [
        (Limits(open_tasks_max=20), of(5, 19)),
        (Limits(open_tasks_max=20), of(5) + of(9, 18)),
        (Limits(open_tasks_max=20), of(9, 21)),
        (Limits(open_bytes_max=1_000), [created(payload=b"p" * 901)]),
    ],
)
def test_what_an_empty_backlog_has_no_room_for_is_told_to_be_split_and_not_to_wait(
    limits: Limits, batch: list[Created]
) -> None:
    rig = Rig(limits)

    with pytest.raises(InvalidArgument) as refused:
        rig.submit(*batch)

    assert (refused.value.reason, refused.value.retry_after_s) == ("BATCH_TOO_LARGE", None)


@pytest.mark.parametrize(
    ("ended", "passed_s", "retry_after_s"),
    [
        (0, 2.0, 1.0),  # nothing moves
        (200, 2.0, 0.5),  # a twentieth of the places, 50, takes as long
        (800, 0.3, 0.05),
        (2, 2.0, 1.0),
    ],
)
def test_who_is_refused_shall_come_back_when_a_part_of_the_backlog_has_ended(
    ended: int, passed_s: float, retry_after_s: float
) -> None:
    rig = full(1_000)
    rig.advance(0.3)
    with pytest.raises(ResourceExhausted):
        rig.submit(*of(5))
    for task in list(rig.book.tasks.values())[:ended]:
        rig.core.control.cancel(task, "", rig.now)
    rig.advance(passed_s)

    with pytest.raises(ResourceExhausted) as refused:
        rig.submit(*of(5, 900))

    assert refused.value.retry_after_s == pytest.approx(retry_after_s, abs=0.001)
