from __future__ import annotations

from typing import Any

import pytest

from podium.sdk.agent import Agent
from podium.sdk.host import AgentHost
from podium.v1.task_pb2 import TaskSpec


def test_a_handler_is_found_by_type_and_else_by_a_required_capability() -> None:
    agent = Agent("worker")

    @agent.handles("text.summarize")
    def summarize(text: str) -> str:
        return text

    def found(**fields: Any) -> bool:
        return agent.handler_for(TaskSpec(**fields)) is not None

    assert found(type="text.summarize")
    assert found(type="nightly", required_capabilities=["text.summarize"])
    assert not found(type="nightly")


def test_an_id_is_made_of_name_and_host() -> None:
    agent_id = Agent("Text Worker!").agent_id

    assert agent_id.startswith("text-worker-")
    assert len(agent_id) <= 64


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"capacity": 0}, "capacity is 1 to 1000"),
        ({"capacity": 1001}, "capacity is 1 to 1000"),
        ({"agent_id": "Upper"}, "agent_id 'Upper'"),
        ({"agent_id": "a" * 65}, "1 to 64"),
        ({"agent_id": "-a"}, "agent_id"),
    ],
)
def test_what_the_router_would_refuse_is_refused_here(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Agent("worker", **arguments)


@pytest.mark.parametrize("task_type", ["", "Upper", "a b", "*", "x" * 65])
def test_a_task_type_must_be_one(task_type: str) -> None:
    with pytest.raises(ValueError, match="not a task type"):
        Agent("worker").handles(task_type)


def test_a_type_has_one_handler() -> None:
    agent = Agent("worker")
    agent.handles("work")(lambda payload: None)

    with pytest.raises(ValueError, match="has a handler already"):
        agent.handles("work")


def test_a_handler_takes_the_payload_and_at_most_the_context() -> None:
    def none() -> None: ...

    def three(a: int, b: int, c: int) -> None: ...

    for function in (none, three):
        with pytest.raises(TypeError, match="must take the payload"):
            Agent("worker").handles("work")(function)


def test_an_agent_that_can_do_nothing_is_not_hosted() -> None:
    with pytest.raises(ValueError, match="handles nothing"):
        _ = Agent("worker").identity


def test_agents_of_a_host_have_ids_of_their_own() -> None:
    with pytest.raises(ValueError, match="agent_id of its own"):
        AgentHost([Agent("a", agent_id="same"), Agent("b", agent_id="same")])
    with pytest.raises(ValueError, match="at least one"):
        AgentHost([])
