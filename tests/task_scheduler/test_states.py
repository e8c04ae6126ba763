from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from podium.v1 import event_pb2, task_pb2
from services.task_scheduler.core.states import (
    LEASED,
    TABLE,
    TERMINAL,
    TERMINAL_KINDS,
    IllegalTransition,
    Kind,
    State,
    diagram,
    next_state,
)

README = Path(__file__).resolve().parents[2] / "services" / "README.md"


@pytest.mark.parametrize(("state", "kind"), list(product(State, Kind)))
def test_every_pair_is_in_the_table_or_an_error(state: State, kind: Kind) -> None:
    if (state, kind) in TABLE:
        assert next_state(state, kind) is TABLE[state, kind]
    else:
        with pytest.raises(IllegalTransition, match=f"{kind.name} .* {state.name}"):
            next_state(state, kind)


def test_the_table_is_the_contract() -> None:
    # A change of the table is a change of what clients see: it must be made here too.
    legal = {
        "NEW": "CREATED>CREATED",
        "CREATED": "CANCELED>CANCELED EXPIRED>EXPIRED FAILED>FAILED PAUSED>PAUSED "
        "QUEUED>QUEUED REJECTED>REJECTED",
        "QUEUED": "ASSIGNED>ASSIGNED BLOCKED>CREATED CANCELED>CANCELED EXPIRED>EXPIRED "
        "PAUSED>PAUSED RETRYING>RETRY_WAIT",
        "ASSIGNED": "CANCELED>CANCELED EXPIRED>EXPIRED HANDED_BACK>QUEUED PAUSED>PAUSED "
        "STARTED>RUNNING",
        "RUNNING": "ATTEMPT_FAILED>RETRY_WAIT CANCELED>CANCELED COMPLETED>COMPLETED "
        "EXPIRED>EXPIRED INPUT_REQUIRED>INPUT_REQUIRED PAUSED>PAUSED PROGRESS>RUNNING",
        "INPUT_REQUIRED": "CANCELED>CANCELED EXPIRED>EXPIRED INPUT_PROVIDED>QUEUED",
        "RETRY_WAIT": "CANCELED>CANCELED EXPIRED>EXPIRED FAILED>FAILED PAUSED>PAUSED "
        "QUEUED>QUEUED RETRYING>RETRY_WAIT",
        "PAUSED": "CANCELED>CANCELED EXPIRED>EXPIRED FAILED>FAILED RESUMED>CREATED",
        "FAILED": "REQUEUED>QUEUED",
    }
    actual: dict[str, list[str]] = {}
    for (state, kind), following in TABLE.items():
        actual.setdefault(state.name, []).append(f"{kind.name}>{following.name}")

    assert {state: " ".join(sorted(steps)) for state, steps in actual.items()} == legal


def test_nothing_follows_an_end_but_the_revival_of_a_dead_letter() -> None:
    after_the_end = {pair for pair in TABLE if pair[0] in TERMINAL}

    assert after_the_end == {(State.FAILED, Kind.REQUEUED)}


def test_ends_are_reached_by_the_events_that_say_so() -> None:
    reached = {kind for (_, kind), following in TABLE.items() if following in TERMINAL}

    assert reached == TERMINAL_KINDS


def test_only_a_grant_makes_a_lease() -> None:
    entries = {pair for pair, following in TABLE.items() if following in LEASED}

    assert {pair for pair in entries if pair[0] not in LEASED} == {(State.QUEUED, Kind.ASSIGNED)}


def test_the_numbers_are_those_of_the_wire() -> None:
    kinds = {kind.name: int(kind) for kind in Kind}
    wire_kinds = {
        name.removeprefix("TYPE_"): number
        for name, number in event_pb2.Event.Type.items()
        if number
    }
    states = {
        name.removeprefix("STATE_"): number
        for name, number in task_pb2.Task.State.items()
        if number
    }

    assert kinds == wire_kinds
    # One state of the core is shown as two, by what the task waits for.
    assert states.pop("DELAYED") == 1 == int(State.CREATED)
    assert states.pop("BLOCKED") == 2
    assert states == {s.name: int(s) for s in State if s not in (State.NEW, State.CREATED)}


def test_the_diagram_in_the_documents_is_the_table() -> None:
    text = README.read_text("utf-8")
    begin, end = "<!-- states:begin -->", "<!-- states:end -->"
    shown = text[text.index(begin) + len(begin) : text.index(end)].strip()

    assert shown == f"```mermaid\n{diagram()}\n```", "run: python -m tests.task_scheduler.diagram"
