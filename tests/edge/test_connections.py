from __future__ import annotations

from services.edge.core.connections import Connections


def test_the_longest_idle_connection_makes_room_for_a_new_one() -> None:
    connections: Connections[str] = Connections(2)
    assert connections.admit(1, "first") is None
    assert connections.admit(2, "second") is None
    connections.touch(1)

    evicted = connections.admit(3, "third")

    assert evicted == "second"
    assert list(connections) == ["first", "third"]


def test_an_evicted_connection_is_touched_and_removed_without_effect() -> None:
    connections: Connections[str] = Connections(1)
    connections.admit(1, "first")
    connections.admit(2, "second")

    connections.touch(1)
    connections.remove(1)

    assert connections.get(1) is None
    assert connections.get(2) == "second"
    assert len(connections) == 1


def test_connections_may_leave_while_all_are_visited() -> None:
    connections: Connections[int] = Connections(10)
    for number in range(5):
        connections.admit(number, number)

    for number in connections:
        connections.remove(number)

    assert len(connections) == 0
