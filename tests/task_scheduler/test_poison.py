from __future__ import annotations

import pytest

from services.task_scheduler.core.event import Failed, Terms
from services.task_scheduler.core.poison import AGENT_LOST
from services.task_scheduler.core.retry import RetryPolicy
from services.task_scheduler.core.states import Kind, State
from services.task_scheduler.core.task import Task
from tests.task_scheduler.rig import Rig


def lose(rig: Rig, task: Task, agent_id: str) -> None:
    """Let a task start on an agent that is then gone."""
    rig.grants()
    rig.start(task, agent_id)
    rig.core.outcomes.failed(
        rig.router, rig.lease(task), agent_id, AGENT_LOST, None, rig.now, agent_fault=True
    )
    rig.advance(0.5)


def tried(max_retries: int, *agents: str, broke_on: str = "") -> tuple[Rig, Task]:
    """Return a task that has lost these agents, but for one on which it only failed."""
    rig = Rig()
    policy = RetryPolicy(max_retries=max_retries, initial_backoff_ms=0)
    task = rig.granted(terms=Terms(policy=policy))
    for agent_id in agents:
        if agent_id == broke_on:
            rig.start(task, agent_id)
            rig.fail(rig.lease(task), agent_id)
            rig.advance(0.5)
        else:
            lose(rig, task, agent_id)
    return rig, task


def test_a_task_that_lost_three_agents_is_poison_once_its_retries_are_spent() -> None:
    rig, task = tried(2, "a1", "a2", "a3")

    assert task.state is State.FAILED
    assert task.failure is not None and task.failure.reason == "POISON"
    assert "a1, a2, a3" in task.failure.message
    failed = [e.detail for e in rig.events if e.kind in (Kind.ATTEMPT_FAILED, Kind.FAILED)]
    told = [(d.failure.reason, d.agent_fault) for d in failed if isinstance(d, Failed)]
    assert told == [("AGENT_LOST", True)] * 3 + [("POISON", False)]


def test_poison_costs_no_fewer_attempts_than_its_policy_allows() -> None:
    _, task = tried(3, "a1", "a2", "a3")

    assert task.state is not State.FAILED


@pytest.mark.parametrize(
    ("agents", "broke_on"),
    [
        (("a1", "a2"), ""),
        (("a1", "a2", "a1", "a2"), ""),
        (("a1", "a2", "a3", "a4"), "a2"),
    ],
    ids=["two agents", "two agents, twice", "it only failed on one"],
)
def test_it_is_not_poison_otherwise(agents: tuple[str, ...], broke_on: str) -> None:
    _, task = tried(len(agents) - 1, *agents, broke_on=broke_on)

    assert task.state is State.FAILED
    assert task.failure == AGENT_LOST


def test_a_task_that_was_revived_is_judged_anew() -> None:
    rig, task = tried(2, "a1", "a2", "a3")
    rig.core.control.requeue(task, None, rig.now)
    rig.advance(0.5)
    lose(rig, task, "a4")
    lose(rig, task, "a5")
    lose(rig, task, "a4")

    assert task.failure == AGENT_LOST


def test_poison_is_poison_after_a_restart() -> None:
    rig, task = tried(2, "a1", "a2", "a3")

    assert rig.restarted().task(task.task_id).failure == task.failure
