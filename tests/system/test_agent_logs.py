"""The same script leaves the same log, whatever an agent is made of and however it is connected."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from podium.v1 import task_scheduler_pb2
from podium.v1.task_pb2 import RetryPolicy
from tests.contracts.session_agents import (
    AGENT_ID,
    TYPE,
    Begin,
    Conforming,
    sdk_agent,
    stubs_agent,
)
from tests.contracts.session_script import BRIDGED
from tests.support.proxy import proxied
from tests.support.waiting import eventually
from tests.system.stage import SERVICES, Stage, staged

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAKES: dict[str, tuple[Begin, str]] = {
    "sdk": (sdk_agent, "routing"),
    "stubs": (stubs_agent, "routing"),
    **{name: (begin, "edge") for name, begin in BRIDGED.items()},
}
TAKEN = ["CREATED", "QUEUED", "ASSIGNED", "STARTED"]
AGAIN = ["ATTEMPT_FAILED", "RETRYING", "QUEUED", "ASSIGNED", "STARTED"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    environ = {"PODIUM_LEASE_TTL_S": 10, "PODIUM_EDGE_ORIGINS": "none,self"}
    made = staged(tmp_path_factory.mktemp("logs"), services=(*SERVICES, "edge"), environ=environ)
    async with made as suite:
        yield suite


async def told(stage: Stage, task_id: str) -> list[str]:
    """Returns what happened to a task; reports that may be merged count as one."""
    story = await stage.story(task_id)
    return [kind for place, kind in enumerate(story) if story[place - 1 : place] != [kind]]


async def one(stage: Stage, text: str) -> str:
    return await stage.submit_one(TYPE, text, retry_policy=RetryPolicy(max_retries=1))


async def until_present(stage: Stage) -> None:
    await stage.until_status(AGENT_ID, "IDLE", "BUSY")


async def until_gone(stage: Stage, agent: Conforming) -> None:
    await eventually(lambda: agent.ended)
    await stage.until_status(AGENT_ID, "OFFLINE", "SUSPECT")


@pytest.mark.parametrize("make", MAKES)
async def test_the_same_script_leaves_the_same_log(stage: Stage, make: str) -> None:
    begin, service = MAKES[make]
    log: dict[str, list[str]] = {}
    async with proxied(stage.suite.addresses[service]) as net:
        async with begin(net.address) as agent:
            await until_present(stage)
            for text in ("say it", "report", "fail", "large"):
                log[text] = await told(stage, await one(stage, text))
            canceled = await one(stage, "wait")
            await stage.until(canceled, "STARTED")
            request = task_scheduler_pb2.CancelTasksRequest(task_ids=[canceled])
            await stage.scheduler.CancelTasks(request)
            log["canceled"] = await told(stage, canceled)
            held = await one(stage, "hold")
            await stage.until(held, "STARTED")
            before = net.accepted
            net.cut()
            log["cut off and back"] = await told(stage, held)
            assert net.accepted > before
            many = [await one(stage, f"say {number}") for number in range(10)]
            log["many"] = [kind for each in many for kind in await told(stage, each)]
            last = await one(stage, "hold")
            await stage.until(last, "STARTED")
            agent.stop()
            log["drained"] = await told(stage, last)
            await until_gone(stage, agent)
        first = await one(stage, "wait")
        async with begin(net.address) as older:
            await stage.until(first, "STARTED")
            async with begin(net.address):
                await eventually(lambda: older.ended)
                # The newer instance has not got it: what the older did is lost.
                await stage.until(first, "STARTED", 2)
                request = task_scheduler_pb2.CancelTasksRequest(task_ids=[first])
                await stage.scheduler.CancelTasks(request)
        log["superseded"] = await told(stage, first)

    assert log == {
        "say it": [*TAKEN, "COMPLETED"],
        "report": [*TAKEN, "PROGRESS", "COMPLETED"],
        "fail": [*TAKEN, "ATTEMPT_FAILED", "FAILED"],
        "large": [*TAKEN, "ATTEMPT_FAILED", "FAILED"],
        "canceled": [*TAKEN, "CANCELED"],
        "cut off and back": [*TAKEN, "COMPLETED"],
        "many": [*TAKEN, "COMPLETED"] * 10,
        "drained": [*TAKEN, "COMPLETED"],
        "superseded": [*TAKEN, *AGAIN, "CANCELED"],
    }
