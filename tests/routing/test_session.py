from __future__ import annotations

import pytest

from services.kernel.errors import ResourceExhausted
from services.routing.core.session import Stream, strikes_max, superseded_len_max
from tests.routing.floor import Floor


def test_a_session_has_the_slots_it_says_less_what_it_does() -> None:
    session = Floor().agent("a1", slots=3)

    assert session.free_slots() == 3
    session.load = 2
    assert session.free_slots() == 1
    session.load = 5
    assert session.free_slots() == 0


def test_instances_that_it_has_followed_are_barred_the_last_of_them() -> None:
    session = Floor().agent("a1", instance="new")

    session.followed(tuple(f"i{number}" for number in range(superseded_len_max + 1)))
    session.followed(("new", "i8"))

    assert (session.bars("i0"), session.bars("i1"), session.bars("new")) == ("", "new", "")
    assert len(session.superseded) == superseded_len_max


def test_an_instance_that_was_followed_elsewhere_is_barred_itself() -> None:
    session = Floor().agent("a1", instance="old")
    session.superseded_by = "new"

    assert (session.bars("old"), session.bars("other")) == ("new", "")


@pytest.mark.parametrize(
    ("credit", "assigned", "free"), [(None, 9, 3), (10, 9, 1), (9, 9, 0), (100, 9, 3)]
)
def test_credit_bounds_the_free_slots(credit: int | None, assigned: int, free: int) -> None:
    session = Floor().agent("a1", slots=3)
    session.credit_total, session.assigned_total = credit, assigned

    assert session.free_slots() == free


def test_a_half_open_breaker_leaves_one_slot() -> None:
    session = Floor().agent("a1", slots=8)
    session.half_open = True

    assert session.free_slots() == 1
    session.load = 1
    assert session.free_slots() == 0


def test_frames_of_a_session_are_numbered_from_one() -> None:
    session = Floor(up=False).agent("a1")
    session.seq = 0

    assert [session.next_seq() for _ in range(3)] == [1, 2, 3]


def test_strikes_that_are_spread_out_do_no_harm() -> None:
    stream = Stream(1)
    for number in range(100):
        stream.strike(number * 5.0)

    with pytest.raises(ResourceExhausted, match="16 frames"):
        for _ in range(strikes_max):
            stream.strike(500.0)
