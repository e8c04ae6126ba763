from __future__ import annotations

from collections import Counter

from services.edge.core.placement import place

ROUTERS = ["10.0.0.1:7703", "10.0.0.2:7703", "10.0.0.3:7703"]
AGENTS = [f"agent-{number}" for number in range(300)]


def test_every_bridge_comes_to_the_same_answer() -> None:
    backwards = ROUTERS[::-1]

    assert all(place(each, ROUTERS) == place(each, backwards) for each in AGENTS)


def test_agents_are_spread_evenly_enough() -> None:
    counts = Counter(place(each, ROUTERS) for each in AGENTS)

    assert len(counts) == 3
    assert min(counts.values()) > 60


def test_when_a_router_goes_only_its_own_agents_move() -> None:
    left = ROUTERS[1:]
    moved = [each for each in AGENTS if place(each, ROUTERS) != place(each, left)]

    assert {place(each, ROUTERS) for each in moved} == {ROUTERS[0]}


def test_without_a_router_there_is_no_place() -> None:
    assert place("agent-1", []) is None
