"""Tasks that kill their agents; numbered as in the matrix of faults."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from podium.v1 import agent_pb2, task_scheduler_pb2
from podium.v1.task_pb2 import RetryPolicy, Task, TaskFilter
from tests.system.stage import Stage, staged

pytestmark = pytest.mark.asyncio(loop_scope="module")

ONCE = ["STARTED", "COMPLETED"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def suite(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    # Whoever is gone is given up well before the ack that it owes is due.
    times = {"PODIUM_DETACH_GRACE_S": 0.3, "PODIUM_ACK_TIMEOUT_S": 20, "PODIUM_LEASE_TTL_S": 20}
    async with staged(tmp_path_factory.mktemp("poison"), environ=times) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def stage(suite: Stage) -> AsyncIterator[Stage]:
    yield suite
    await suite.leave()


async def dead_letters(stage: Stage, reason: str) -> list[Task]:
    wanted = TaskFilter(states=[Task.STATE_FAILED], failure_text=reason)
    request = task_scheduler_pb2.ListTasksRequest(filter=wanted)
    return list((await stage.scheduler.ListTasks(request)).tasks)


async def test_f12_a_task_that_kills_agents_is_poison_and_leaves_the_others_alone(
    stage: Stage,
) -> None:
    names = ("f12-a", "f12-b", "f12-c", "f12-d")
    for name in names:
        await stage.worked(name, "f12")
    twice = RetryPolicy(max_retries=2)
    poison = await stage.submit_one("f12", "exit", retry_policy=twice)
    healthy = await stage.submit("f12", *["sleep 0"] * 200)
    task = await stage.ended(poison)
    await stage.ended(*healthy)

    assert task.failure.reason == "POISON"
    assert len({event.agent_id for event in stage.all_of(poison, "STARTED")}) == 3
    assert [each.task_id for each in await dead_letters(stage, "POISON")] == [poison]
    breakers = [(await stage.agent(name)).breaker for name in names]
    assert breakers == [agent_pb2.Agent.BREAKER_CLOSED] * 4
    for task_id in healthy:
        story = await stage.story(task_id)
        assert [kind for kind in story if kind not in ("CREATED", "QUEUED", "ASSIGNED")] == ONCE


async def test_f12_a_task_that_kills_agents_before_they_take_it_is_poison_as_well(
    stage: Stage,
) -> None:
    task_id = await stage.submit_one("f12-early", retry_policy=RetryPolicy(max_retries=2))
    # By chance an agent may go before it takes a task; each second one is an attempt.
    for died in range(1, 7):
        agent_id = f"f12-early-{died}"
        wire = stage.wire()
        await wire.hello(agent_id, "f12-early")
        await wire.until(agent_id, "assign")
        await wire.drop()
        await stage.until_count(task_id, died, "HANDED_BACK", "ATTEMPT_FAILED")
    task = await stage.ended(task_id)

    assert task.failure.reason == "POISON"
    assert stage.of(task_id).count("HANDED_BACK") == stage.of(task_id).count("STARTED") == 3
