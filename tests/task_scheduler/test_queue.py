from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from services.task_scheduler.core.event import Terms
from services.task_scheduler.core.lane import NEVER
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.pauses import Pause, Scope
from services.task_scheduler.core.pool import Pool
from services.task_scheduler.core.queue import AGEING_SHARE, ReadyQueue
from services.task_scheduler.core.task import Task
from tests.task_scheduler.rig import START, created

AGEING_S = 60.0


class Lane:
    """A queue with a way to push tasks into it."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.queue = ReadyQueue(limits or Limits(ageing_s=AGEING_S))
        self.seq = 0

    def push(
        self,
        *needs: str,
        priority: int = 5,
        at_s: float = 0.0,
        tenant: str = "default",
        due_s: float = 0.0,
        keys: tuple[str, ...] = (),
    ) -> Task:
        self.seq += 1
        deadline_ms = START.wall_ms + round(due_s * 1000) if due_s else 0
        terms = Terms(priority=priority, deadline_ms=deadline_ms, concurrency_keys=keys)
        draft = created(needs=needs or ("a",), terms=terms, tenant=tenant)
        task = Task(f"t{self.seq}", draft, seq=self.seq, wall_ms=0, mono_s=START.mono_s)
        task.lane = self.queue.enter(task.alike)
        task.queued_seq = self.seq
        task.queued_s = at_s
        self.queue.push(task)
        return task

    def pool(self, *capabilities: str):
        return self.queue.pool(frozenset(capabilities))

    def take(self, pool, now_s: float = 0.0) -> Task | None:
        """Pop a task and begin its lease."""
        task = self.queue.pop(pool, now_s)
        if task is not None:
            task.charged_s = task.lane.share.charge(task.task_type)
            self.queue.hold(task.lane)
        return task

    def end(self, task: Task, *, used_s: float = 1.0, back: bool = False) -> None:
        """End a lease: the task is done, or waits again."""
        task.lane.share.settle(task.charged_s, 0.0 if back else used_s)
        self.queue.free(task.lane)
        if back:
            self.queue.push(task)
        else:
            self.queue.leave(task.lane)


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

    assert len(tasks[0].lane._fifo) < 200


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


def test_a_pool_that_is_dropped_gets_nothing_more() -> None:
    lane = Lane()
    pool = lane.pool("a", "b")
    lane.queue.drop(pool)
    lane.push("a", "b")

    assert lane.queue.pop(pool, 0.0) is None


def test_schedulable_means_that_a_connected_agent_has_it_all() -> None:
    lane = Lane()
    pool = lane.pool("a", "b")

    assert not lane.queue.schedulable(frozenset({"a"}))
    pool.members = 1
    assert lane.queue.schedulable(frozenset({"a"}))
    lane.push("a")
    assert lane.queue.schedulable(frozenset({"a"}))
    assert not lane.queue.schedulable(frozenset({"c"}))


def test_the_tenant_that_has_used_least_goes_first() -> None:
    lane = Lane()
    red, blue = lane.push(tenant="red"), lane.push(tenant="blue")
    again = lane.push(tenant="red")
    pool = lane.pool("a")

    assert lane.take(pool) is blue
    assert lane.take(pool) is red
    red.lane.share.settle(1.0, 50.0)
    late = lane.push(tenant="blue")
    assert [lane.take(pool), lane.take(pool)] == [late, again]


def test_before_a_tenant_could_save_up_it_begins_where_the_others_are() -> None:
    lane = Lane()
    pool = lane.pool("a")
    for _ in range(10):
        lane.push(tenant="red")
        lane.take(pool).lane.share.settle(1.0, 10.0)
    others = [lane.push(tenant="red") for _ in range(4)]
    late = [lane.push(tenant="blue") for _ in range(4)]

    order = [lane.take(pool) for _ in range(8)]

    assert {task.tenant for task in order[:2]} == {"red", "blue"}
    assert [task for task in order if task in late] == late
    assert [task for task in order if task in others] == others


def test_the_earliest_deadline_goes_first_over_lanes_too() -> None:
    lane = Lane()
    plain, late, soon = (
        lane.push(need, due_s=due_s) for need, due_s in zip("aba", (0, 90, 30), strict=True)
    )
    pool = lane.pool("a", "b")

    assert [lane.take(pool) for _ in range(3)] == [soon, late, plain]


def test_an_overdue_priority_gets_its_grant_by_the_shares_of_its_tenants() -> None:
    lane = Lane()
    old = [lane.push(priority=0, tenant=name) for name in ("red", "red", "red", "blue")]
    for _ in range(40):
        lane.push(priority=9, at_s=100.0)
    pool = lane.pool("a")

    taken = [lane.take(pool, 100.0) for _ in range(16)]

    assert [task for task in taken if task in old] == [old[3], old[0], old[1], old[2]]


def test_a_full_key_holds_its_lane_up_and_nobody_else() -> None:
    lane = Lane()
    first, second = (lane.push(keys=("k",)) for _ in range(2))
    other = lane.push()
    pool = lane.pool("a")

    assert [lane.take(pool) for _ in range(3)] == [first, other, None]
    lane.end(first)
    assert lane.take(pool) is second


def test_a_free_place_is_offered_for_each_set_of_needs() -> None:
    lane = Lane()
    holder = lane.push(keys=("k",))
    pool = lane.pool("a")
    assert lane.take(pool) is holder
    nobody_can, somebody_can = lane.push("rare", keys=("k",)), lane.push("b", keys=("k",))
    both = lane.pool("b")
    assert lane.take(both) is None

    lane.end(holder)

    assert lane.take(both) is somebody_can
    assert nobody_can.place


def test_of_those_that_wait_for_a_key_the_most_urgent_goes_first() -> None:
    lane = Lane()
    pool = lane.pool("a")
    holder = lane.push(keys=("k",))
    assert lane.take(pool) is holder
    low, high = lane.push(keys=("k",), priority=1), lane.push(keys=("k", "l"), priority=8)
    assert lane.take(pool) is None

    lane.end(holder)
    assert lane.take(pool) is high
    assert lane.take(pool) is None
    lane.end(high)
    assert lane.take(pool) is low


def test_a_place_that_one_cannot_take_goes_to_the_next() -> None:
    lane = Lane()
    pool = lane.pool("a")
    one, two = lane.push(keys=("one",)), lane.push(keys=("two",))
    assert [lane.take(pool), lane.take(pool)] == [one, two]
    both, only_one = lane.push(keys=("one", "two")), lane.push(keys=("one",))
    assert lane.take(pool) is None

    lane.end(one)
    assert lane.take(pool) is only_one
    lane.end(two)
    assert lane.take(pool) is None
    lane.end(only_one)
    assert lane.take(pool) is both


def test_keys_belong_to_their_tenant_unless_they_are_shared() -> None:
    lane = Lane(Limits(shared_concurrency_limits={"shared": 1}, concurrency_limits={"two:*": 2}))
    pool = lane.pool("a")
    own = [lane.push(tenant=name, keys=("own",)) for name in ("red", "blue")]
    shared = [lane.push(tenant=name, keys=("shared",)) for name in ("red", "blue")]
    two = [lane.push(keys=("two:x",)) for _ in range(3)]

    taken = [lane.take(pool) for _ in range(8)]

    assert set(own) <= set(taken)
    assert len(set(shared) & set(taken)) == 1
    assert len(set(two) & set(taken)) == 2
    assert lane.queue.keys.concurrency["", "shared"].waiting == 1


def test_keys_are_forgotten_with_their_last_open_task() -> None:
    lane = Lane()
    pool = lane.pool("a")
    task = lane.push(keys=("k",))
    lane.take(pool)
    lane.end(task)

    assert lane.queue.keys.concurrency == {}
    assert lane.push(keys=("k",)) is lane.take(pool)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1_000_000))
def test_any_pool_gets_what_a_sorted_list_would_give_it(seed: int) -> None:
    draw = random.Random(seed)
    lane = Lane(Limits(ageing_s=AGEING_S, tenant_weights={"red": 2.0}))
    waiting: list[Task] = []
    running: list[Task] = []
    pools = [lane.pool(*names) for names in ("a", "ab", "abc", "bc")]
    for _ in range(150):
        action = draw.random()
        if action < 0.45:
            waiting.append(
                lane.push(
                    *draw.sample("abc", draw.randint(1, 2)),
                    priority=draw.randint(4, 6),
                    tenant=draw.choice(["red", "blue"]),
                    due_s=draw.choice([0, 0, draw.randint(1, 9)]),
                    keys=draw.choice([(), (), ("k",), ("k", "l"), ("l",)]),
                )
            )
        elif action < 0.55 and waiting:
            gone = waiting.pop(draw.randrange(len(waiting)))
            lane.queue.remove(gone)
            lane.queue.leave(gone.lane)
        elif action < 0.7 and running:
            ended = running.pop(draw.randrange(len(running)))
            if draw.random() < 0.3:
                lane.end(ended, back=True)
                waiting.append(ended)
            else:
                lane.end(ended, used_s=draw.choice([0.5, 1.0, 8.0]))
        elif action < 0.75:
            scope = draw.choice([Scope("red", ""), Scope("", "work")])
            pauses = lane.queue.pauses
            pauses.remove(scope) if scope in pauses else pauses.add(Pause(scope, "", 0))
            lane.queue.review_pauses(scope)
        else:
            pool = draw.choice(pools)
            expected = best_for(pool, waiting)
            assert lane.take(pool) is expected
            if expected is not None:
                waiting.remove(expected)
                running.append(expected)
    assert set(lane.queue.waiting()) == set(waiting)
    assert len(lane.queue) == len(waiting)


def best_for(pool: Pool, waiting: list[Task]) -> Task | None:
    fitting = [
        task
        for task in waiting
        if frozenset(task.needs) <= pool.capabilities
        and not task.lane.paused
        and task.lane.full() is None
    ]

    def rank(task: Task) -> tuple[object, ...]:
        share = task.lane.share
        passed_s = pool.lines[share].turn_s(pool.clocks_s[share.priority])
        deadline_ms = task.terms.deadline_ms or NEVER
        return -share.priority, passed_s, share.name, deadline_ms, task.queued_seq

    return min(fitting, key=rank) if fitting else None
