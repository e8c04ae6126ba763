from __future__ import annotations

from services.task_scheduler.core.bounds import held_up, pass_on, release
from services.task_scheduler.core.event import Terms
from services.task_scheduler.core.lane import STALE_LEN_MIN, Lane
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
