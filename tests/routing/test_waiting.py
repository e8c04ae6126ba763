from __future__ import annotations

import random

from services.routing.core.assignment import Lease
from services.routing.core.demand import Demand
from services.routing.core.waiting import Waiting, Window


def lease(task_id: str, demand: Demand, priority: int = 5) -> Lease:
    made = Lease(task_id, 1, priority=priority)
    made.demand = demand
    return made


def demand(name: str, mask: int) -> Demand:
    made = Demand(frozenset([name]), frozenset())
    made.class_mask = mask
    return made


def test_the_order_is_by_priority_and_then_by_grant_over_all_demands() -> None:
    waiting = Waiting()
    read, write = demand("read", 1), demand("write", 2)
    for number, (wanted, priority) in enumerate(
        [(read, 5), (write, 5), (read, 9), (write, 0), (read, 5), (write, 9)]
    ):
        waiting.add(lease(f"t{number}", wanted, priority))

    assert [each.task_id for each in waiting] == ["t2", "t5", "t0", "t1", "t4", "t3"]
    window = window_of(waiting, 3, 2)
    assert ids(window.leases(2)) == ["t5", "t1", "t3"]


def window_of(waiting: Waiting, length: int, mask: int) -> Window[str]:
    return Window(waiting, length, mask, lambda each: each.task_id)


def ids(pairs: list[tuple[Lease, str]]) -> list[str]:
    return [task_id for _, task_id in pairs]


def test_a_window_is_filled_up_behind_what_is_taken_out_of_it() -> None:
    waiting = Waiting()
    read, write = demand("read", 1), demand("write", 2)
    for number in range(6):
        waiting.add(lease(f"t{number}", (read, write)[number % 2]))
    window = window_of(waiting, 3, 3)

    leases = window.leases(3)
    assert ids(leases) == ["t0", "t1", "t2"]

    waiting.remove(leases.pop(1)[0])
    assert ids(window.leases(3)) == ["t0", "t2", "t3"]


def test_a_window_loses_the_tasks_of_classes_that_are_busy_by_now() -> None:
    waiting = Waiting()
    read, write = demand("read", 1), demand("write", 2)
    for number in range(6):
        waiting.add(lease(f"t{number}", (read, write)[number % 2]))
    window = window_of(waiting, 3, 3)
    window.leases(3)

    assert ids(window.leases(2)) == ["t1", "t3", "t5"]


def test_any_lease_can_be_taken_out() -> None:
    waiting = Waiting()
    read = demand("read", 1)
    leases = [lease(f"t{number}", read, number % 10) for number in range(50)]
    for each in leases:
        waiting.add(each)
    random.Random(3).shuffle(leases)

    for taken, each in enumerate(leases, 1):
        waiting.remove(each)
        assert len(waiting) == len(leases) - taken
    assert read.waiting_count == 0


def test_stranded_are_those_that_no_working_class_could_take() -> None:
    waiting = Waiting()
    here, gone = demand("read", 0b101), demand("write", 0b010)
    waiting.add(lease("t1", here))
    stranded = lease("t2", gone)
    waiting.add(stranded)

    assert waiting.stranded(0b100) == [stranded]
    assert waiting.stranded(0b110) == []
