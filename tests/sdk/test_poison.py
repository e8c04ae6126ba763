from __future__ import annotations

import asyncio
from typing import Any

import pytest

from podium.sdk.agent import Agent
from podium.sdk.errors import TaskFailed
from podium.sdk.testing import Suite


def stuck(agent_id: str) -> Agent:
    agent = Agent(agent_id, agent_id=agent_id)

    @agent.handles("wait")
    async def wait(payload: Any) -> None:
        await asyncio.Event().wait()

    return agent


@pytest.mark.parametrize(("count", "reason"), [(3, "POISON"), (2, "AGENT_LOST")])
async def test_a_task_that_costs_three_agents_is_poison_in_a_suite_of_tests_too(
    count: int, reason: str
) -> None:
    names = [f"a{number}" for number in range(count)]
    async with Suite(*[stuck(name) for name in names]) as suite:
        task = await suite.submit("wait", max_retries=count - 1)
        for number in range(count):
            await task.reaches("RUNNING")
            suite.lose(task.agents[number])
            if number < count - 1:
                await suite.advance(10.0)
        with pytest.raises(TaskFailed) as failed:
            await task.result()

    assert failed.value.reason == reason
