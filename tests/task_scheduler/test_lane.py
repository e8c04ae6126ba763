from __future__ import annotations

import tracemalloc

from services.task_scheduler.core.event import Terms
from services.task_scheduler.core.lane import (
    NEVER,
    SHORT_LEN,
    ConcurrencyKey,
    Lane,
    LaneKey,
    Requirement,
)
from services.task_scheduler.core.shares import Shares
from services.task_scheduler.core.task import Task
from tests.task_scheduler.rig import START, created


class Waiting:
    """A lane with a way to push tasks into it."""

    def __init__(self, *keys: ConcurrencyKey, limit: int = 1) -> None:
        shares = Shares({})
        share = shares.share(shares.tenant("default"), 5)
        key = LaneKey(("work",), 5, "default", "work", (), 0)
        bounds = tuple((one, limit) for one in keys)
        self.lane = Lane(1, key, Requirement(1, ("work",)), share, bounds)
        self.seq = 0

    def push(self, *, due_s: float = 0.0) -> Task:
        self.seq += 1
        deadline_ms = START.wall_ms + round(due_s * 1000) if due_s else 0
        draft = created(terms=Terms(deadline_ms=deadline_ms))
        task = Task(f"t{self.seq}", draft, seq=self.seq, wall_ms=0, mono_s=0.0)
        task.queued_seq = self.seq
        self.first = self.lane.push(task)
        return task

    def drain(self) -> list[Task]:
        taken = []
        while head := self.lane.head():
            self.lane.take(head[2])
            taken.append(head[2])
        return taken


def test_the_earliest_deadline_goes_first_and_those_without_go_last() -> None:
    waiting = Waiting()
    first, late, second, soon = (waiting.push(due_s=due_s) for due_s in (0, 100, 0, 50))

    assert list(waiting.lane) == [soon, late, first, second]
    assert waiting.drain() == [soon, late, first, second]


def test_equal_deadlines_go_in_order() -> None:
    waiting = Waiting()
    tasks = [waiting.push(due_s=60) for _ in range(4)]

    assert waiting.drain() == tasks


def test_the_oldest_is_told_whatever_its_deadline() -> None:
    waiting = Waiting()
    oldest = waiting.push(due_s=1_000)
    waiting.push()
    waiting.push(due_s=10)

    assert waiting.lane.oldest() == (1, oldest)
    waiting.lane.take(oldest)
    assert waiting.lane.oldest()[0] == 2


def test_it_tells_when_its_first_task_is_another_one() -> None:
    waiting = Waiting()
    told = []
    for due_s in (0, 0, 100, 200, 50):
        waiting.push(due_s=due_s)
        told.append(waiting.first)

    assert told == [True, False, True, False, True]


def test_a_task_that_comes_back_has_its_place_again() -> None:
    waiting = Waiting()
    tasks = [waiting.push(due_s=due_s) for due_s in (0, 30, 0, 20)]
    order = waiting.drain()
    for task in tasks:
        waiting.lane.push(task)

    assert waiting.lane.waiting == 4
    assert list(waiting.lane) == order
    assert waiting.drain() == order


def test_tasks_that_left_do_not_pile_up() -> None:
    waiting = Waiting()
    tasks = [waiting.push(due_s=due_s) for due_s in [0, 60] * 5_000]
    for task in tasks[2:]:
        waiting.lane.remove(task)

    lane = waiting.lane
    assert max(len(lane._fifo), len(lane._due), len(lane._aged)) < 200
    assert list(lane) == [tasks[1], tasks[0]]


def test_taken_by_deadline_their_entries_by_age_do_not_pile_up() -> None:
    waiting = Waiting()
    waiting.push(due_s=10_000)
    for _ in range(5_000):
        task = waiting.push(due_s=5)
        waiting.lane.take(task)

    assert len(waiting.lane._aged) < 200
    assert len(waiting.lane._due) < 200


def test_a_full_key_is_told() -> None:
    free, full = ConcurrencyKey("free", ""), ConcurrencyKey("full", "")
    waiting = Waiting(free, full, limit=2)
    full.running = 1
    assert waiting.lane.full() is None

    full.running = 2

    assert waiting.lane.full() is full


def test_lanes_rank_by_priority_share_deadline_and_place() -> None:
    waiting = Waiting()
    waiting.push()
    head = waiting.lane.head()
    assert head is not None

    assert head[0] == NEVER
    before = waiting.lane.rank(head)
    waiting.lane.share.passed_s = 10.0
    assert waiting.lane.rank(head) > before


def test_a_lane_of_one_task_is_so_many_bytes_and_no_more() -> None:
    first = Waiting().lane
    tasks = [Waiting().push() for _ in range(200)]
    tracemalloc.start()
    lanes = [Lane(n, first.key, first.requirement, first.share, ()) for n in range(200)]
    for lane, task in zip(lanes, tasks, strict=True):
        lane.push(task)
    used_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    # 230 when this was written; a deque for each would take 700 more.
    assert used_bytes / len(lanes) < 300


def test_a_lane_that_has_grown_long_keeps_the_order() -> None:
    waiting = Waiting()
    tasks = [waiting.push() for _ in range(3 * SHORT_LEN)]
    back = tasks[:SHORT_LEN]
    for task in back:
        waiting.lane.take(task)
        assert waiting.lane.head()[2] is tasks[tasks.index(task) + 1]
    for task in reversed(back):
        waiting.lane.push(task)

    assert waiting.drain() == tasks
    assert waiting.lane.head() is None
