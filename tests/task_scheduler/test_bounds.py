from __future__ import annotations

import pytest

from services.task_scheduler.core.bounds import held_up, pass_on, release
from services.task_scheduler.core.event import Terms
from services.task_scheduler.core.lane import STALE_LEN_MIN, Key, Lane
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.queue import ReadyQueue
from services.task_scheduler.core.task import Task
from tests.task_scheduler.rig import Rig, created


def lanes(*names: str) -> list[Lane]:
    """Lanes of one key, each with a task that waits."""
    queue, made = ReadyQueue(Limits()), []
    for place, name in enumerate(names, start=1):
        draft = created(name, needs=("work",), terms=Terms(concurrency_keys=("k",)))
        task = Task(f"t{place}", draft, seq=place, wall_ms=0, mono_s=0.0)
        task.lane, task.queued_seq = queue.enter(task.alike), place
        queue.push(task)
        made.append(task.lane)
    return made


def test_a_paused_lane_is_held_up_whatever_its_keys_say() -> None:
    (lane,) = lanes("one")
    assert not held_up(lane)
    lane.paused = True

    assert held_up(lane)
    assert lane.blocked_on is None


def test_a_place_that_is_free_lets_the_one_go_on_that_was_queued_first() -> None:
    one, two = lanes("one", "two")
    key = one.bounds[0][0]
    key.running = 1
    assert held_up(two) and held_up(one)

    key.running = 0
    release(key)

    assert (one.blocked_on, two.blocked_on) == (None, key)
    pass_on(one)
    assert two.blocked_on is None


def under_one_key(
    queue: ReadyQueue, *needs: str, limit: int = 1, running: int = 1
) -> tuple[Key, list[Task]]:
    """Return a key under which so many run, with a task that waits for each of some needs."""
    tasks = []
    for place, need in enumerate(needs, start=1):
        terms = Terms(concurrency_keys=("k",), concurrency_limit=limit)
        draft = created(need, needs=(need,), terms=terms)
        task = Task(f"t{place}", draft, seq=place, wall_ms=0, mono_s=0.0)
        task.lane, task.queued_seq = queue.enter(task.alike), place
        queue.push(task)
        tasks.append(task)
    key = tasks[0].lane.bounds[0][0]
    key.running = running
    assert all([held_up(task.lane) for task in tasks])
    return key, tasks


def offered(tasks: list[Task]) -> list[str]:
    return [task.task_type for task in tasks if task.lane.blocked_on is None]


@pytest.mark.parametrize(("free", "expected"), [(0, ""), (1, "a"), (2, "ab"), (9, "abcd")])
def test_as_many_are_offered_to_a_pool_as_places_are_free_whatever_they_need(
    free: int, expected: str
) -> None:
    queue = ReadyQueue(Limits())
    queue.pool(frozenset("abcd"))
    key, tasks = under_one_key(queue, *"abcd", limit=9, running=9)

    key.running = 9 - free
    release(key)

    assert offered(tasks) == list(expected)


def test_no_pool_is_left_without_one_that_it_could_take() -> None:
    queue = ReadyQueue(Limits())
    for capabilities in ("ab", "bc", "d"):
        queue.pool(frozenset(capabilities))
    key, tasks = under_one_key(queue, *"abcd")

    key.running = 0
    release(key)

    # Which agents are free is not known: a for the first pool, c or b for the second, d for its.
    assert offered(tasks) == ["a", "b", "d"]


def test_one_that_leaves_before_it_is_taken_lets_the_next_go_on() -> None:
    queue = ReadyQueue(Limits())
    pool = queue.pool(frozenset("ab"))
    key, (first, second) = under_one_key(queue, *"ab")
    key.running = 0
    release(key)
    assert offered([first, second]) == ["a"]

    queue.remove(first)

    assert offered([second]) == ["b"]
    assert queue.pop(pool, 0.0) is second


def test_an_entry_that_is_out_of_date_does_not_go_before_others() -> None:
    queue = ReadyQueue(Limits())
    pool = queue.pool(frozenset("abc"))
    key, (first, second) = under_one_key(queue, *"ab")
    late = Task("t9", created("a", needs=("a",), terms=first.terms), seq=9, wall_ms=0, mono_s=0.0)
    late.lane, late.queued_seq = queue.enter(late.alike), 9
    queue.push(late)
    queue.remove(first)

    key.running = 0
    release(key)

    assert offered([late, second]) == ["b"]
    assert queue.pop(pool, 0.0) is second


def blocked(lane: Lane) -> int:
    """How many entries all groups of its key have."""
    return sum(len(heap) for heap in lane.bounds[0][0].blocked.values())


def test_a_lane_that_surfaces_again_and_again_is_noted_once() -> None:
    one, two = lanes("one", "two")
    one.bounds[0][0].running = 1
    for _ in range(50):
        assert held_up(one) and held_up(two)

    assert blocked(one) == 2


def test_a_lane_whose_first_task_comes_earlier_now_goes_before_others() -> None:
    one, two = lanes("one", "two")
    key = one.bounds[0][0]
    key.running = 1
    assert held_up(one) and held_up(two)
    terms = Terms(concurrency_keys=("k",), deadline_ms=5)
    urgent = Task("t3", created("two", needs=("work",), terms=terms), seq=3, wall_ms=0, mono_s=0.0)
    urgent.queued_seq = 3
    two.push(urgent)
    assert held_up(two)

    key.running = 0
    release(key)

    assert (one.blocked_on, two.blocked_on) == (key, None)


def test_lanes_that_have_emptied_under_a_full_key_do_not_pile_up() -> None:
    rig = Rig()
    terms = Terms(concurrency_keys=("k",))
    running = rig.running(terms=terms)
    waiting = rig.submit_one("kept", needs=("work",), terms=terms)
    for number in range(5 * STALE_LEN_MIN):
        passing = rig.submit_one(f"type-{number}", needs=("work",), terms=terms)
        rig.core.control.cancel(passing, "", rig.now)
        rig.take()

    assert blocked(waiting.lane) <= STALE_LEN_MIN + 8
    rig.complete(rig.lease(running))
    assert [grant.task for grant in rig.grants()] == [waiting]


def test_routers_that_come_and_go_leave_nothing_at_a_full_key() -> None:
    rig = Rig()
    terms = Terms(concurrency_keys=("k",))
    rig.running(terms=terms)
    waiting = [rig.submit_one(f"t{n}", needs=("work",), terms=terms) for n in range(5)]
    for _ in range(20):
        rig.core.dispatch.open("r1", [], rig.now)
        rig.credit()

    assert blocked(waiting[0].lane) == 5
