from __future__ import annotations

import numpy as np

from services.routing.core.fleet import Block
from tests.routing.floor import Floor


def test_arrays_grow_with_the_fleet_and_rows_are_used_again() -> None:
    floor = Floor()
    sessions = [floor.agent(f"a{number}") for number in range(100)]
    fleet = floor.board.fleet

    assert len(fleet) == 100
    assert sorted(session.row for session in sessions) == list(range(100))
    floor.attendance.goodbye(sessions[5], floor.time)
    assert floor.agent("late").row == 5
    assert int(np.count_nonzero(fleet.points > -np.inf)) == 100


def test_points_follow_the_free_share() -> None:
    floor = Floor()
    session = floor.agent("a1", slots=4)
    fleet = floor.board.fleet

    assert fleet.points[session.row] == 100.0
    leases = [floor.running(f"t{number}") for number in range(4)]
    assert fleet.points[session.row] == -np.inf
    assert fleet.slowdown[session.row] == np.inf
    assert not fleet.free_mask
    floor.finish(leases[0])
    assert fleet.points[session.row] == 25.0
    assert fleet.slowdown[session.row] == 1.75


def test_slots_are_counted_over_the_fleet() -> None:
    floor = Floor()
    floor.agent("a1", slots=4)
    session = floor.agent("a2", slots=6)
    for number in range(5):
        floor.running(f"t{number}")
    fleet = floor.board.fleet

    assert (fleet.capacity_slots, fleet.busy_slots) == (10, 5)
    load = session.load
    floor.attendance.goodbye(session, floor.time)
    assert (fleet.capacity_slots, fleet.busy_slots) == (4, 5 - load)


def test_the_gravest_reason_is_the_one_that_blocks() -> None:
    floor = Floor()
    session = floor.agent("a1")
    assert session.block() is Block.OPEN

    session.paused = True
    session.breaker_open = True
    assert session.block() is Block.BREAKER
    session.draining = True
    assert session.block() is Block.DRAINING
    session.quarantined = True
    assert session.block() is Block.QUARANTINED
    session.stream = None
    assert session.block() is Block.SUSPECT


def test_empty_classes_are_forgotten_between_streams() -> None:
    floor = Floor()
    session = floor.agent("a1", "rare")
    floor.agent("a2")
    floor.attendance.goodbye(session, floor.time)

    floor.orders.hello()

    assert {kind.names for kind in floor.board.fleet.classes.values()} == {("echo",)}


def test_who_of_a_class_is_free_is_known_without_looking_at_all() -> None:
    floor = Floor()
    fleet = floor.board.fleet
    readers = [floor.agent(f"a{number}", "read", slots=2) for number in range(3)]
    writer = floor.agent("w", "write")
    kind = fleet.class_of(["read"])
    for number in range(5):
        floor.granted(f"t{number}", "read")
        assert list(kind.free.values()) == [each for each in readers if each.load < 2]
    floor.attendance.drain_agent(writer)
    floor.turn()

    assert fleet.free_classes(kind.bit | fleet.class_of(["write"]).bit) == [kind]
    floor.granted("last", "read")
    assert fleet.free_classes(kind.bit) == []
    assert not kind.free
