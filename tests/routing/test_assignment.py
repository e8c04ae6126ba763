from __future__ import annotations

import pytest

from services.routing.core.assignment import Lease, Leases


def test_a_lease_is_known_by_task_and_epoch() -> None:
    leases = Leases()
    older, newer = Lease("t1", 3), Lease("t1", 7)
    leases.add(older)
    leases.add(newer)

    assert leases.get(("t1", 3)) is older
    assert leases.get(("t1", 7)) is newer
    assert leases.get(("t1", 5)) is None
    leases.drop(older)
    assert list(leases) == [newer]


def test_one_lease_cannot_be_held_twice() -> None:
    leases = Leases()
    leases.add(Lease("t1", 3))

    with pytest.raises(AssertionError):
        leases.add(Lease("t1", 3))


def test_leases_may_go_while_they_are_walked() -> None:
    leases = Leases()
    for number in range(5):
        leases.add(Lease(f"t{number}", 1))

    for lease in leases:
        leases.drop(lease)

    assert len(leases) == 0


def test_hand_backs_are_remembered_from_a_moment_on() -> None:
    leases = Leases()
    leases.note_handed_back(10.0, ("t1", 1), "NACK_BUSY", "a1")
    leases.note_handed_back(20.0, ("t2", 2), "NO_AGENT", "")

    assert leases.handed_back_since(15.0) == [(("t2", 2), "NO_AGENT", "")]
