"""What a choice costs Routing, as counts that must not grow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from services.routing.core import effects
from tests.bench.counting import calls
from tests.routing.floor import Floor, raw_model

TASKS = 500
ROUTING_CALLS = 150
"""From a grant to one of 100 free agents, twenty tasks at once; 142 when this was written."""
LOADED_CALLS = 235
"""The same, four at once to the four of them that are free; 226 when this was written."""


def routed(floor: Floor, types: list[str]) -> Counter[str]:
    """Takes tasks through their life in batches of twenty; returns what was to be done."""
    done: Counter[str] = Counter()
    for first in range(0, TASKS, 20):
        leases = [
            floor.grant(f"t{number}", types[number % len(types)], of=tuple(types))
            for number in range(first, first + 20)
        ]
        done.update(type(each).__name__ for each in floor.router.turn(floor.time))
        for held in leases:
            assert held.session
            floor.work.ack(held.session, held.key, floor.time)
            floor.work.result(held.session, held.key, None, "SUCCEEDED", floor.time)
        done.update(type(each).__name__ for each in floor.router.turn(floor.time))
        for held in leases:
            floor.orders.settled(held.key, effects.ACCEPTED)
        done.update(type(each).__name__ for each in floor.router.turn(floor.time))
    return done


def fleet() -> tuple[Floor, list[str]]:
    floor, types = Floor(), [f"kind-{number}" for number in range(8)]
    names = [f"a{number:03}" for number in range(100)]
    for name in names:
        floor.agent(name, *types)
    floor.router.learn(raw_model(names, types, deviation=0.05), floor.time)
    floor.router.board.take_effects()
    return floor, types


def test_a_task_is_two_frames_and_two_reports_of_routing() -> None:
    floor, types = fleet()

    done = routed(floor, types)

    credits = done.pop("Credited")
    assert done == dict.fromkeys(
        ("SendAssign", "Started", "Ended", "Outcome", "Settled", "SendResultAck"), TASKS
    )
    # Credit is told once a turn and class, however many slots have changed.
    assert credits <= 3 * TASKS / 20


def test_choosing_an_agent_costs_so_many_calls_and_no_more() -> None:
    floor, types = fleet()
    routed(floor, types)

    with calls() as count:
        for number in range(TASKS):
            floor.grant(f"again-{number}", types[number % 8], of=tuple(types))
            if number % 20 == 19:
                floor.router.turn(floor.time)
                for held in list(floor.board.leases):
                    floor.board.unbind(held)
                    floor.board.leases.drop(held)

    assert count.calls / TASKS < ROUTING_CALLS


def test_choosing_among_the_few_that_are_free_costs_so_many_calls_and_no_more() -> None:
    floor, types = fleet()

    def worked(numbers: Iterable[int], *, ending: int) -> None:
        for number in numbers:
            floor.grant(f"t{number}", types[number % 8], of=tuple(types))
            if number % 4 == 3:
                for held in [held for held in floor.board.leases if held.session][:ending]:
                    floor.board.unbind(held)
                    floor.board.leases.drop(held)
                floor.turn()

    worked(range(120), ending=0)
    worked(range(120, 220), ending=4)
    with calls() as count:
        worked(range(220, 220 + TASKS), ending=4)

    assert len(floor.board.waiting) == 20
    assert count.calls / TASKS < LOADED_CALLS
