"""Structures that were weighed: collectors against pools, a sorted list against the ready queue.

The life of tasks (the core and the codec, 10^5 other tasks waiting) is run under the collector as
Python sets it, as services look (by the clock, at what is new) and without one, by turns. A pool
keeps what would be freed and fills it anew: of tasks, and of messages. The sorted list is kept by
insertion, by priority and arrival alone; the ready queue does all that it does.
"""

from __future__ import annotations

import gc
import statistics
import time
from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from podium.v1 import task_pb2, task_scheduler_pb2
from services.kernel.garbage import Collector
from services.task_scheduler.core.task import Task
from tests.bench.backlog import TYPES, Queue
from tests.bench.rows import Row

WAITING, TASKS, ROUNDS = 100_000, 4_000, 7
MADE = 20_000
DEPTHS = (100, 10_000, 300_000)
PAYLOAD = b"x" * 200
LOOK_TASKS = 400
"""As many as come between two looks of a service at 4,000 tasks a second."""

Tend = Callable[[], object]
Made = Callable[[], object]


def collectors(scale: float) -> Sequence[Row]:
    """Compare collectors and pools, round by round in turn."""
    queue = Queue(int(WAITING * scale))
    took = {name: [0.0] * ROUNDS for name in COLLECTORS}
    for number in range(ROUNDS):
        for name, set_up in COLLECTORS.items():
            with _collected(set_up) as tend:
                took[name][number] = _life_us(queue, int(TASKS * scale), tend)
    rows = [
        Row(f"a task's life, {name}", round(statistics.median(found), 2), "us")
        for name, found in took.items()
    ]
    with _collected(_as_services):
        for name, make in (*_tasks(), *_messages()):
            cost = statistics.median(_cost_us(make) for _ in range(ROUNDS))
            rows.append(Row(name, round(cost, 3), "us"))
    return rows


def queues(scale: float) -> Sequence[Row]:
    """Take the next task and let another wait, at several depths."""
    rows = []
    for depth in (int(each * scale) for each in DEPTHS):
        with _collected(_as_services):
            for name, make in (_sorted_list(depth), _ready_queue(depth)):
                cost = statistics.median(_cost_us(make) for _ in range(ROUNDS))
                rows.append(Row(f"{name}, {depth:,} wait", round(cost, 2), "us"))
    return rows


def _sorted_list(depth: int) -> tuple[str, Made]:
    waiting = sorted(((number * 7) % 10, -number) for number in range(depth))
    numbers = iter(range(depth, 1 << 60))

    def turn() -> object:
        # The next one is at the end, where taking it moves nothing.
        priority, _ = first = waiting.pop()
        insort(waiting, (priority, -next(numbers)))
        return first

    return "sorted list, priority and arrival only", turn


def _ready_queue(depth: int) -> tuple[str, Made]:
    queue = Queue(depth)
    ready = queue.core.book.queue
    pool = ready.pool(frozenset(f"type-{number}" for number in range(TYPES)))

    def turn() -> object:
        task = ready.pop(pool, queue.now.mono_s)
        assert task is not None
        ready.push(task)
        return task

    return "ready queue, fairness and ageing included", turn


def _as_python() -> Tend:
    gc.set_threshold(700, 10, 10)
    gc.enable()
    return lambda: None


def _as_services() -> Tend:
    gc.disable()
    return Collector().look


def _without() -> Tend:
    gc.disable()
    return lambda: None


COLLECTORS: dict[str, Callable[[], Tend]] = {
    "collector as Python sets it": _as_python,
    "collector as services set it": _as_services,
    "no collector": _without,
}


@contextmanager
def _collected(set_up: Callable[[], Tend]) -> Iterator[Tend]:
    collects, before, frozen = gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()
    gc.collect()
    try:
        yield set_up()
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
        if frozen:
            gc.freeze()
        if collects:
            gc.enable()
        else:
            gc.disable()


def _life_us(queue: Queue, count: int, tend: Tend) -> float:
    """Return the microseconds of a task from its submit to its end."""
    began_s = time.perf_counter()
    for first in range(0, count, LOOK_TASKS):
        some = min(LOOK_TASKS, count - first)
        queue.fill(some)
        queue.grant(some)
        tend()
    return (time.perf_counter() - began_s) / count * 1e6


def _cost_us(make: Made) -> float:
    began_s = time.perf_counter()
    for _ in range(MADE):
        make()
    return (time.perf_counter() - began_s) / MADE * 1e6


def _tasks() -> Iterator[tuple[str, Made]]:
    made = Queue(1).created()
    pool = [Task("t", made, seq=1, wall_ms=0, mono_s=0.0)]

    def pooled() -> object:
        task = pool.pop()
        # Every field has to have its first value again: that is what making one costs.
        task.__init__("t", made, seq=1, wall_ms=0, mono_s=0.0)  # type: ignore[misc]  # on purpose
        pool.append(task)
        return task

    yield "a task made and let go", lambda: Task("t", made, seq=1, wall_ms=0, mono_s=0.0)
    yield "a task taken from a pool and given back", pooled


def _messages() -> Iterator[tuple[str, Made]]:
    pool = [task_scheduler_pb2.Grant()]

    def fresh() -> object:
        payload = task_pb2.Payload(content_type="application/json", data=PAYLOAD)
        spec = task_pb2.TaskSpec(type="work", payload=payload)
        grant = task_scheduler_pb2.Grant(task_id="t", lease_epoch=1, attempt=1, spec=spec)
        return grant.SerializeToString()

    def pooled() -> object:
        grant = pool.pop()
        grant.Clear()
        grant.task_id, grant.lease_epoch, grant.attempt = "t", 1, 1
        spec = grant.spec
        spec.type = "work"
        spec.payload.content_type, spec.payload.data = "application/json", PAYLOAD
        pool.append(grant)
        return grant.SerializeToString()

    yield "a message made and serialized", fresh
    yield "a message of a pool cleared, filled and serialized", pooled
