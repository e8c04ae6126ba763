from __future__ import annotations

from services.task_scheduler.core.event import Terms
from services.task_scheduler.core.lane import Lane, LaneKey, Requirement
from services.task_scheduler.core.pool import STALE_LEN_MIN, Elders, Pool
from services.task_scheduler.core.shares import Shares
from services.task_scheduler.core.task import Task
from tests.task_scheduler.rig import created


def lane(number: int, priority: int, *places: int) -> Lane:
    shares = Shares({})
    share = shares.share(shares.tenant("default"), priority)
    key = LaneKey(("work",), priority, "default", "work", (), 0)
    made = Lane(number, key, Requirement(1, ("work",)), share, ())
    for place in places:
        push(made, place)
    return made


def push(made: Lane, place: int) -> None:
    draft = created(terms=Terms(priority=made.key.priority))
    task = Task(f"t{place}", draft, seq=place, wall_ms=0, mono_s=0.0)
    task.queued_seq = place
    made.push(task)


def test_a_lane_that_is_offered_shows_in_the_mask_of_its_priority() -> None:
    pool = Pool(frozenset({"work"}))
    pool.offer(lane(1, 3, 1))
    pool.offer(lane(2, 7, 2))

    assert pool.mask == 1 << 3 | 1 << 7


def test_an_empty_lane_is_not_listed() -> None:
    pool = Pool(frozenset({"work"}))
    pool.offer(lane(1, 3))

    assert (pool.mask, pool.lines) == (0, {})


def test_a_lane_is_listed_again_only_when_its_first_task_comes_earlier() -> None:
    pool = Pool(frozenset({"work"}))
    offered = lane(1, 3, 5)
    for place in (0, 9, 2):
        if place:
            push(offered, place)
        pool.offer(offered)

    line = pool.lines[offered.share]
    assert [entry[1] for entry in sorted(line.heads)] == [2, 5]
    assert [entry[0] for entry in sorted(line.elders.heap)] == [2, 5]
    assert line.lanes[1][1] == line.elders.listed[1][0] == 2
    assert len(pool.turns[3]) == 1


def test_lanes_that_have_emptied_behind_an_old_one_are_forgotten() -> None:
    elders = Elders()
    elders.offer(1, lane(1, 3, 1))
    for number in range(2, 10 * STALE_LEN_MIN):
        passing = lane(number, 3, number)
        elders.offer(number, passing)
        passing.take(passing.head()[2])

    assert len(elders.heap) <= STALE_LEN_MIN + 2
    assert elders.heap[0][:2] == (1, 1)
