from __future__ import annotations

from services.routing.core.board import TOKENS_LEN
from services.routing.core.effects import HandedBack
from tests.routing.floor import Floor


def test_effects_are_taken_once() -> None:
    floor = Floor(up=False)
    floor.board.effects.append(HandedBack("t1", 1, "NO_AGENT", ""))

    assert len(floor.board.take_effects()) == 1
    assert floor.board.take_effects() == []


def test_no_token_is_given_twice() -> None:
    board = Floor().board
    tokens = {board.token() for _ in range(3 * TOKENS_LEN)}

    assert len(tokens) == 3 * TOKENS_LEN
    assert {len(token) for token in tokens} == {32}


def test_a_lease_binds_a_slot_and_gives_it_back() -> None:
    floor = Floor()
    session = floor.agent("a1", slots=2)
    lease = floor.granted("t1")
    assert (session.load, list(session.leases)) == (1, [lease.key])

    floor.board.unbind(lease)

    assert (session.load, list(session.leases), lease.session) == (0, [], None)


def test_a_waiting_lease_counts_for_its_class_until_it_is_placed_or_handed_back() -> None:
    floor = Floor()
    floor.agent("a1")
    kind = floor.board.fleet.class_of(["echo"])
    leases = [floor.grant(f"t{number}") for number in range(3)]
    assert kind.waiting == 3

    floor.turn()
    assert kind.waiting == 2
    floor.board.hand_back(leases[2], "NO_AGENT", "", floor.time)
    assert kind.waiting == 1 and len(floor.board.waiting) == 1
