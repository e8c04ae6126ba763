from __future__ import annotations

from typing import Any

import pytest

from podium.v1 import agent_pb2
from services.agent_registry.core.agent import Agent, Status
from services.agent_registry.core.breaker import State
from tests.agent_registry.hall import facts

HERE: dict[str, Any] = {"present": True, "router_id": "r1"}


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ({}, Status.OFFLINE),
        (HERE, Status.IDLE),
        ({**HERE, "in_flight": 1}, Status.BUSY),
        ({**HERE, "in_flight": 1, "draining": True}, Status.DRAINING),
        ({**HERE, "draining": True, "quarantined": True}, Status.QUARANTINED),
        ({**HERE, "quarantined": True, "silent": True}, Status.SUSPECT),
        ({"present": True}, Status.SUSPECT),
        ({"quarantined": True}, Status.OFFLINE),
    ],
)
def test_the_status_is_the_first_thing_that_matters(state: dict[str, Any], status: Status) -> None:
    agent = Agent(facts("a1"), 0, 0, 0.0, **state)

    assert agent.status is status


def test_an_agent_takes_work_while_it_has_a_slot_and_a_closed_breaker() -> None:
    agent = Agent(facts("a1", max_concurrency=2), 0, 0, 0.0, **HERE)
    assert agent.takes_work
    agent.in_flight = 1
    assert agent.takes_work
    agent.in_flight = 2
    assert not agent.takes_work
    agent.in_flight = 0
    agent.breaker.state = State.HALF_OPEN
    assert not agent.takes_work


def test_numbers_are_those_of_the_wire() -> None:
    for status in Status:
        assert agent_pb2.Agent.Status.Value(f"STATUS_{status.name}") == status
    for state in State:
        assert agent_pb2.Agent.Breaker.Value(f"BREAKER_{state.name}") == state
