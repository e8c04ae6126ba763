from __future__ import annotations

from services.task_scheduler.core.event import Terms
from services.task_scheduler.core.lane import Lane, LaneKey, Requirement
from services.task_scheduler.core.pool import Pool
from services.task_scheduler.core.shares import Shares
from services.task_scheduler.core.task import Task
from tests.task_scheduler.rig import created


def lane(number: int, priority: int, *places: int) -> Lane:
    shares = Shares({})
    share = shares.share(shares.tenant("default"), priority)
    key = LaneKey(("work",), priority, "default", "work", (), 0)
    made = Lane(number, key, Requirement(1, ("work",)), share, ())
    for place in places:
        draft = created(terms=Terms(priority=priority))
        task = Task(f"t{place}", draft, seq=place, wall_ms=0, mono_s=0.0)
        task.queued_seq = place
        made.push(task)
    return made


def test_a_lane_that_is_offered_shows_in_the_mask_of_its_priority() -> None:
    pool = Pool(frozenset({"work"}))
    pool.offer(lane(1, 3, 1), first=False)
    pool.offer(lane(2, 7, 2), first=False)

    assert pool.mask == 1 << 3 | 1 << 7


def test_an_empty_lane_is_not_listed() -> None:
    pool = Pool(frozenset({"work"}))
    pool.offer(lane(1, 3), first=True)

    assert (pool.mask, pool.lines) == (0, {})


def test_a_lane_is_listed_once_but_for_a_new_first_task() -> None:
    pool = Pool(frozenset({"work"}))
    offered = lane(1, 3, 1)
    for first in (False, False, True):
        pool.offer(offered, first=first)

    line = pool.lines[offered.share]
    assert len(line.heads) == len(line.elders) == 2
    assert len(pool.turns[3]) == 1
