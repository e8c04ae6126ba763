from __future__ import annotations

import pytest

from services.routing.core.assignment import Lease
from services.routing.core.credits import grant_s, look_ahead_len_max, look_ahead_len_min, pace
from services.routing.core.effects import Credited
from tests.routing.floor import Floor


def test_a_class_accepts_its_free_slots_and_a_look_ahead() -> None:
    floor = Floor()

    floor.agent("a1", slots=3)
    floor.agent("a2", slots=2)

    assert floor.credit() == (5 + look_ahead_len_min, 2)


def test_a_class_tells_how_much_of_its_credit_may_have_to_wait() -> None:
    floor = Floor()
    floor.agent("a1", slots=3)

    told = floor.last(Credited)
    assert (told.total, told.look_ahead) == (3 + look_ahead_len_min, look_ahead_len_min)


def test_grants_change_nothing_of_what_is_told() -> None:
    floor = Floor()
    floor.agent("a1", slots=2)
    told = len(floor.of(Credited))

    for number in range(2 + look_ahead_len_min):
        floor.granted(f"t{number}")

    assert len(floor.of(Credited)) == told


def test_credit_counts_what_was_granted_and_never_what_waits_twice() -> None:
    floor = Floor()
    floor.agent("a1")

    leases = [floor.granted(f"t{number}") for number in range(1 + look_ahead_len_min)]
    assert floor.credit() == (1 + look_ahead_len_min, 1), "all of it is used"
    floor.finish(leases[0])

    assert floor.credit() == (2 + look_ahead_len_min, 1), "one more, for the slot that was free"


def test_a_class_in_which_nobody_works_accepts_nothing() -> None:
    floor = Floor()
    session = floor.agent("a1", slots=4)
    granted = floor.running("t1")
    assert floor.credit()[0] == 4 + look_ahead_len_min

    floor.attendance.drain_agent(session)
    floor.turn()

    assert floor.credit() == (1, 1)
    floor.finish(granted)
    assert floor.credit() == (1, 1)


def test_a_class_whose_agents_left_is_told_to_have_none() -> None:
    floor = Floor()
    floor.agent("a1", slots=4)

    floor.attendance.close_stream(1, floor.time)
    floor.sleep(2.0)

    assert floor.credit() == (0, 0)


def test_classes_are_told_apart_by_their_capabilities() -> None:
    floor = Floor()
    floor.agent("reader", "read")
    floor.agent("both", "read", "write", slots=2)

    assert floor.credit("read") == (1 + look_ahead_len_min, 1)
    assert floor.credit("read", "write") == (2 + look_ahead_len_min, 1)


def test_a_task_granted_to_one_class_may_run_in_another() -> None:
    floor = Floor()
    floor.agent("reader", "read")
    floor.running("t0", "read")
    floor.agent("both", "read", "write")

    lease = floor.granted("t1", "read", of=("read",))

    assert lease.agent_id == "both"
    assert floor.credit("read")[0] == 2 + look_ahead_len_min
    assert floor.credit("read", "write")[0] == look_ahead_len_min


def test_nothing_is_told_while_nobody_listens() -> None:
    floor = Floor(up=False)

    floor.agent("a1")
    assert floor.board.fleet.class_of(["echo"]).parts[0].announced == (-1, -1, -1)
    floor.orders.welcome((), (), floor.time)
    floor.turn()

    assert floor.credit() == (1 + look_ahead_len_min, 1)


def test_a_fast_class_looks_as_far_ahead_as_it_works_in_the_time_of_a_grant() -> None:
    floor = Floor()
    floor.agent("a1", slots=4)
    kind = floor.board.fleet.class_of(["echo"])

    for _ in range(20):
        for number in range(100):
            floor.finish(floor.running(f"t{floor.time.mono_s}-{number}"))
        floor.sleep(0.1)

    assert kind.look_ahead == pytest.approx(look_ahead_len_min + 1_000 * grant_s, abs=10)
    assert floor.credit()[0] == kind.parts[0].granted + 4 + kind.look_ahead


def test_the_look_ahead_is_bounded_and_shrinks_when_the_class_rests() -> None:
    floor = Floor()
    floor.agent("a1")
    kind = floor.board.fleet.class_of(["echo"])
    kind.placed = 10**9
    pace(floor.board, 1.0)
    assert kind.look_ahead == look_ahead_len_max

    for _ in range(100):
        pace(floor.board, 1.0)

    assert kind.look_ahead == look_ahead_len_min


def divided(partitions: int = 2, slots: int = 4) -> Floor:
    """A floor with one class whose scheduler has several partitions."""
    floor = Floor()
    floor.orders.divide(partitions)
    for partition in range(partitions):
        floor.orders.welcome((), (), floor.time, partition=partition)
    floor.agent("a1", slots=slots)
    floor.turn()
    return floor


def granted_by(floor: Floor, partition: int, number: int) -> Lease:
    """A grant of a partition, as its stream brings it."""
    kind = floor.board.fleet.class_of(["echo"])
    lease = Lease(f"{partition:02x}-{number}", number, partition=partition)
    floor.orders.grant(lease, kind.class_id, ("echo",), (), floor.time)
    return lease


def room_of(floor: Floor) -> list[int]:
    """How many more grants each partition may make, as it was told last."""
    return [p.announced[0] - p.granted for p in floor.board.fleet.class_of(["echo"]).parts]


def test_partitions_share_what_a_class_accepts() -> None:
    floor = divided(partitions=2, slots=4)

    assert room_of(floor) == [(4 + look_ahead_len_min) // 2] * 2


def test_a_partition_that_uses_its_share_gets_what_the_others_leave() -> None:
    floor = divided(partitions=4, slots=4)
    floor.sleep(1.0)
    number = 0
    while room_of(floor)[1]:
        number += 1
        granted_by(floor, 1, number)
        floor.turn()

    # All slots and the look-ahead, less the little that the three others keep.
    assert number >= 4 + look_ahead_len_min - 3
    assert all(left >= 1 for place, left in enumerate(room_of(floor)) if place != 1)


def test_no_partition_starves_while_others_fill_the_room() -> None:
    floor = divided(partitions=2, slots=1)
    floor.sleep(1.0)
    number = 0
    while room_of(floor)[0]:
        number += 1
        granted_by(floor, 0, number)
        floor.turn()

    assert room_of(floor)[1] >= 1, "it may always have one task here"
    granted_by(floor, 1, 1)
    floor.turn()
    assert room_of(floor)[1] == 0, "and no more of them than others leave room for"


def test_what_a_partition_keeps_for_urgent_tasks_is_never_all_that_it_may_grant() -> None:
    floor = divided(partitions=2, slots=1)
    kind = floor.board.fleet.class_of(["echo"])
    kind.look_ahead = 200
    floor.sleep(1.0)
    number = 0
    while room_of(floor)[0]:
        number += 1
        granted_by(floor, 0, number)
        floor.turn()

    (left, _, ahead), granted = kind.parts[1].announced, kind.parts[1].granted
    assert left - granted - ahead // 10 >= 1


def test_a_partition_that_is_gone_leaves_its_share_to_the_others() -> None:
    floor = divided(partitions=2, slots=4)
    floor.orders.disconnected(1)
    floor.sleep(0.5)
    floor.turn()

    assert room_of(floor)[0] == 4 + look_ahead_len_min
