from __future__ import annotations

import pytest

from services.routing.core.demand import demands_len_max
from tests.routing.floor import Floor


def test_members_are_the_agents_with_all_that_is_required() -> None:
    floor = Floor()
    floor.agent("none", "draw")
    first = floor.agent("first", "read", "write")
    demand = floor.board.demands.of(["read"], [])
    later = floor.agent("later", "read")

    assert set(demand.members) == {first.row, later.row}
    assert len(demand.rows) == 2


def test_members_leave_with_their_sessions() -> None:
    floor = Floor()
    session = floor.agent("a1", "read")
    demand = floor.board.demands.of(["read"], [])
    version = demand.version

    floor.attendance.goodbye(session, floor.time)

    assert demand.members == {} and demand.version > version
    assert len(demand.rows) == 0


@pytest.mark.parametrize(
    ("required", "preferred", "match"),
    [
        (["read"], [], 0.8),
        (["read"], ["write"], 0.8),
        (["read"], ["draw"], 0.4),
        (["read", "write"], ["draw", "sing"], 0.4),
        ([], [], 1.0),
    ],
)
def test_the_match_is_the_share_of_what_is_wanted_weighted_by_proficiency(
    required: list[str], preferred: list[str], match: float
) -> None:
    floor = Floor()
    session = floor.agent("a1", "read", "write", proficiency=0.8)

    demand = floor.board.demands.of(required, preferred)

    assert demand.members[session.row] == pytest.approx(match)


def test_equal_wishes_are_one_demand_in_any_order() -> None:
    floor = Floor()
    demands = floor.board.demands

    assert demands.of(["a", "b"], ["c"]) is demands.of(["b", "a"], ["c"])
    assert demands.of(["a", "b"], []) is not demands.of(["a", "b"], ["c"])


def test_the_number_of_demands_is_bounded() -> None:
    floor = Floor()
    for number in range(demands_len_max + 10):
        floor.board.demands.of([f"c{number}"], [])

    assert len(floor.board.demands) <= demands_len_max


def test_members_have_at_least_the_version_that_is_asked_for() -> None:
    floor = Floor()
    floor.agent("unversioned", "read")
    old = floor.agent("old", "read", versions=("read@1.9",))
    demand = floor.board.demands.of(["read@2"], [])
    new = floor.agent("new", "read", versions=("read@2.1",))

    assert set(demand.members) == {new.row}
    assert old.kind is not new.kind, "the scheduler grants by class"
    assert set(floor.board.demands.of(["read"], []).members) >= {old.row, new.row}
    floor.attendance.goodbye(old, floor.time)
    assert len(demand.outdated) == 1


def test_a_preferred_version_counts_only_where_it_is_there() -> None:
    floor = Floor()
    old = floor.agent("old", "read", "write", versions=("write@1",))
    new = floor.agent("new", "read", "write", versions=("write@2",))
    demand = floor.board.demands.of(["read"], ["write@2"])

    assert demand.members == {old.row: 0.5, new.row: 1.0}
