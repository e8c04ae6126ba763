from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from services.task_scheduler.core.event import Terms
from services.task_scheduler.core.queue import AGEING_SHARE, ReadyQueue
from services.task_scheduler.core.task import Task
from tests.task_scheduler.rig import START, created

AGEING_S = 60.0


class Lane:
    """A queue with a way to push tasks into it."""

    def __init__(self) -> None:
        self.queue = ReadyQueue(AGEING_S)
        self.seq = 0

    def push(self, *needs: str, priority: int = 5, at_s: float = 0.0, seq: int = 0) -> Task:
        self.seq += 1
        draft = created(needs=needs or ("a",), terms=Terms(priority=priority))
        requirement = self.queue.require(draft.capabilities)
        task = Task(
            f"t{self.seq}", draft, requirement, seq=self.seq, wall_ms=0, mono_s=START.mono_s
        )
        task.queued_seq = seq or self.seq
        task.queued_s = at_s
        self.queue.push(task)
        return task

    def pool(self, *capabilities: str):
        return self.queue.pool(frozenset(capabilities))


def test_the_higher_priority_goes_first_and_equals_in_order() -> None:
    lane = Lane()
    low, first, second, high = (lane.push(priority=p) for p in (0, 5, 5, 9))
    pool = lane.pool("a")

    assert [lane.queue.pop(pool, 0.0) for _ in range(5)] == [high, first, second, low, None]


def test_a_pool_takes_what_it_can_do_and_leaves_the_rest() -> None:
    lane = Lane()
    other, both = lane.push("b"), lane.push("a", "b")

    assert lane.queue.pop(lane.pool("a"), 0.0) is None
    assert lane.queue.pop(lane.pool("a", "b", "c"), 0.0) is other
    assert lane.queue.pop(lane.pool("a", "b"), 0.0) is both


def test_order_holds_over_requirements() -> None:
    lane = Lane()
    tasks = [lane.push(needs) for needs in "abcacb"]
    pool = lane.pool("a", "b", "c")

    assert [lane.queue.pop(pool, 0.0) for _ in range(6)] == tasks


def test_tasks_that_come_after_the_pool_are_seen_by_it() -> None:
    lane = Lane()
    pool = lane.pool("a")
    assert lane.queue.pop(pool, 0.0) is None

    task = lane.push()

    assert lane.queue.pop(pool, 0.0) is task


def test_two_pools_share_a_lane_without_taking_a_task_twice() -> None:
    lane = Lane()
    tasks = [lane.push() for _ in range(4)]
    one, two = lane.pool("a"), lane.pool("a", "b")

    taken = [lane.queue.pop(pool, 0.0) for pool in (one, two, two, one, one, two)]

    assert taken == [*tasks, None, None]


def test_a_removed_task_is_never_taken() -> None:
    lane = Lane()
    gone, kept = lane.push(), lane.push()
    pool = lane.pool("a")
    lane.queue.remove(gone)

    assert list(lane.queue.waiting()) == [kept]
    assert len(lane.queue) == 1
    assert lane.queue.pop(pool, 0.0) is kept
    assert lane.queue.pop(pool, 0.0) is None


def test_removed_tasks_do_not_pile_up() -> None:
    lane = Lane()
    tasks = [lane.push() for _ in range(10_000)]
    for task in tasks[1:]:
        lane.queue.remove(task)

    requirement = tasks[0].requirement
    assert sum(len(entries) for entries in requirement.lanes if entries) < 200


def test_a_hand_back_returns_to_its_place() -> None:
    lane = Lane()
    one, two, three, four = (lane.push() for _ in range(4))
    pool = lane.pool("a")
    for _ in range(3):
        lane.queue.pop(pool, 0.0)
    for task in (three, one, two):
        lane.queue.push(task)

    assert [lane.queue.pop(pool, 0.0) for _ in range(4)] == [one, two, three, four]


def test_one_grant_in_four_goes_to_the_oldest_that_is_overdue() -> None:
    lane = Lane()
    old = [lane.push(priority=0) for _ in range(3)]
    urgent = [lane.push(priority=9, at_s=100.0) for _ in range(9)]
    pool = lane.pool("a")

    taken = [lane.queue.pop(pool, 100.0) for _ in range(12)]

    assert [taken.index(task) for task in old] == [
        AGEING_SHARE - 1,
        2 * AGEING_SHARE - 1,
        3 * AGEING_SHARE - 1,
    ]
    assert [task for task in taken if task in urgent] == urgent


def test_before_it_is_overdue_a_task_waits_for_its_priority() -> None:
    lane = Lane()
    old = lane.push(priority=0)
    for _ in range(20):
        lane.push(priority=9)
    pool = lane.pool("a")

    assert old not in [lane.queue.pop(pool, AGEING_S - 1) for _ in range(20)]


def test_requirements_and_pools_are_forgotten_with_their_last_user() -> None:
    lane = Lane()
    task = lane.push("a", "b")
    pool = lane.pool("a", "b")
    lane.queue.drop(pool)
    assert task.requirement.pools == []

    lane.queue.remove(task)
    lane.queue.release(task.requirement)

    assert list(lane.queue.requirements()) == []


def test_schedulable_means_that_a_connected_agent_has_it_all() -> None:
    lane = Lane()
    pool = lane.pool("a", "b")

    assert not lane.queue.schedulable(frozenset({"a"}))
    pool.members = 1
    assert lane.queue.schedulable(frozenset({"a"}))
    lane.push("a")
    assert lane.queue.schedulable(frozenset({"a"}))
    assert not lane.queue.schedulable(frozenset({"c"}))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_pool_gets_what_a_sorted_list_would_give_it(data: st.DataObject) -> None:
    lane, waiting = Lane(), []
    pools = [lane.pool(*names) for names in ("a", "ab", "abc", "bc")]
    draw = random.Random(data.draw(st.integers(0, 10_000)))
    for _ in range(120):
        action = draw.random()
        if action < 0.5:
            needs = draw.sample("abc", draw.randint(1, 2))
            waiting.append(lane.push(*needs, priority=draw.randint(0, 9)))
        elif action < 0.6 and waiting:
            gone = waiting.pop(draw.randrange(len(waiting)))
            lane.queue.remove(gone)
        else:
            pool = draw.choice(pools)
            fitting = [t for t in waiting if t.requirement.capabilities <= pool.capabilities]
            fitting.sort(key=lambda t: (-t.terms.priority, t.queued_seq))
            taken = lane.queue.pop(pool, 0.0)
            assert taken is (fitting[0] if fitting else None)
            if taken is not None:
                waiting.remove(taken)
                if draw.random() < 0.3:
                    lane.queue.push(taken)
                    waiting.append(taken)
    assert set(lane.queue.waiting()) == set(waiting)
