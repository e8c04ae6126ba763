from __future__ import annotations

from services.task_scheduler.core.bounds import held_up, pass_on, release
from services.task_scheduler.core.event import Terms
from services.task_scheduler.core.lane import Lane
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.queue import ReadyQueue
from services.task_scheduler.core.task import Task
from tests.task_scheduler.rig import created


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
