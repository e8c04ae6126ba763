"""Whose fault a failure is, the task's or the agent's; numbered as in the matrix of faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio

from podium.v1 import agent_pb2, agent_registry_pb2, session_pb2, task_scheduler_pb2
from podium.v1.session_pb2 import AgentFrame, LeaseRef
from podium.v1.task_pb2 import Failure, RetryPolicy, Task, TaskFilter
from tests.support.waiting import eventually
from tests.system.stage import Caller, Stage, beating, staged

pytestmark = pytest.mark.asyncio(loop_scope="module")

ONCE = ["STARTED", "COMPLETED"]
OPEN_S = 0.5
CLOSED = agent_pb2.Agent.BREAKER_CLOSED
HALF_OPEN = agent_pb2.Agent.BREAKER_HALF_OPEN


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def suite(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    # Whoever is gone is given up well before the ack that it owes is due, and nobody is silent.
    times = {
        "PODIUM_DETACH_GRACE_S": 0.3,
        "PODIUM_ACK_TIMEOUT_S": 20,
        "PODIUM_LEASE_TTL_S": 20,
        "PODIUM_PROBE_S": 20,
        "PODIUM_HEARTBEAT_S": 15,
        "PODIUM_AGENT_GRACE_S": 60,
        "PODIUM_BREAKER_OPEN_S": OPEN_S,
    }
    async with staged(tmp_path_factory.mktemp("blame"), environ=times) as made:
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
    assert [(await stage.agent(name)).breaker for name in names] == [CLOSED] * 4
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


class Bad(Caller):
    """An agent that fails whatever it is given, until it is to hold on to it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.holds = False
        self.held: list[session_pb2.Assign] = []
        super().__init__(channel)

    async def received(self, frames: Any) -> None:
        await super().received(frames)
        for frame in frames:
            if not frame.HasField("assign"):
                continue
            await self.ack(frame.agent_id, frame.assign)
            if self.holds:
                self.held.append(frame.assign)
            else:
                await fail(self, frame.agent_id, frame.assign)


async def fail(wire: Caller, agent_id: str, assign: session_pb2.Assign) -> None:
    failure = Failure(reason="BROKEN", message="it broke", retryable=True)
    lease = LeaseRef(task_id=assign.task_id, lease_epoch=assign.lease_epoch)
    result = session_pb2.Result(lease=lease, failure=failure)
    await wire.send(AgentFrame(agent_id=agent_id, result=result))


async def breaker(stage: Stage, agent_id: str) -> int:
    return (await stage.agent(agent_id)).breaker


async def closed(stage: Stage, agent_id: str) -> bool:
    return await breaker(stage, agent_id) == CLOSED


async def unblamed(stage: Stage, agent_id: str) -> bool:
    agent = await stage.agent(agent_id)
    return agent.failure_rate == 0 and not any(each.failed_count for each in agent.statistics)


async def spared(stage: Stage) -> bool:
    """Does one more task, and returns whether a breaker kept an agent from it."""
    task_id = await stage.submit_one("f13", "sleep 0")
    await stage.ended(task_id)
    request = task_scheduler_pb2.ExplainTaskRequest(task_id=task_id)
    decisions = (await stage.scheduler.ExplainTask(request)).decisions
    return decisions[0].decision.filtered_counts.get("breaker", 0) > 0


async def test_f13_an_agent_that_fails_everything_is_cut_off_and_tried_with_one_task_at_a_time(
    stage: Stage,
) -> None:
    bad = stage.wire(kind=Bad)
    await bad.hello("f13-bad", "f13", max_concurrency=4)
    failed = 0
    while await closed(stage, "f13-bad"):
        # Tasks of their own: one that fails on several agents would be the task's fault.
        task_id = await stage.submit_one("f13", retry_policy=RetryPolicy(max_retries=0))
        await stage.ended(task_id)
        failed += 1
    assert failed >= 6

    await stage.worked("f13-good", "f13", capacity=4)
    await eventually(lambda: spared(stage))
    bad.holds = True
    task_ids: list[str] = []
    while not bad.held:
        task_ids += await stage.submit("f13", *["sleep 0"] * 2)
        await asyncio.sleep(0.05)
    assert await breaker(stage, "f13-bad") == HALF_OPEN
    task_ids += await stage.submit("f13", *["sleep 0"] * 40)
    probe = bad.held[0]
    await stage.ended(*[task_id for task_id in task_ids if task_id != probe.task_id])
    assert bad.held == [probe], "half open, and given more than one of its four slots"
    await bad.result("f13-bad", probe)
    await eventually(lambda: closed(stage, "f13-bad"))


async def test_f13_what_fails_on_two_agents_is_held_against_neither(stage: Stage) -> None:
    names = ("f13-x", "f13-y")
    for name in names:
        await stage.wire(kind=Bad).hello(name, "f13-both")
    for _ in range(8):
        task_id = await stage.submit_one("f13-both", retry_policy=RetryPolicy(max_retries=1))
        await stage.ended(task_id)
        assert {event.agent_id for event in stage.all_of(task_id, "STARTED")} == set(names)

    for name in names:
        await eventually(lambda: unblamed(stage, name))  # noqa: B023 - awaited in this turn
        assert await closed(stage, name)


async def told(stage: Stage, agent_id: str, reason: str) -> bool:
    known = await stage.status(agent_id)
    return bool(known) and (await stage.agent(agent_id)).status_reason == reason


async def half_open(stage: Stage, agent_id: str) -> bool:
    try:
        return await breaker(stage, agent_id) == HALF_OPEN
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.NOT_FOUND
        return False


async def test_f26_a_registry_that_begins_anew_goes_on_from_what_routers_were_told(
    stage: Stage,
) -> None:
    bad = stage.wire(kind=Bad)
    await bad.hello("f26-bad", "f26-bad")
    await bad.hello("f26-held", "f26-held")
    async with beating(bad, "f26-bad"), beating(bad, "f26-held"):
        while await closed(stage, "f26-bad"):
            task_id = await stage.submit_one("f26-bad", retry_policy=RetryPolicy(max_retries=0))
            await stage.ended(task_id)
        hold = agent_registry_pb2.QuarantineAgentRequest(agent_id="f26-held", reason="odd answers")
        await stage.registry.QuarantineAgent(hold)
        bad.holds = True
        waiting = await stage.submit_one("f26-held", "sleep 0")

        await stage.restart("agent_registry")

        await eventually(lambda: told(stage, "f26-held", "odd answers"))
        probed = await stage.submit_one("f26-bad", "sleep 0")
        await stage.until(probed, "STARTED")
        # What was decided is in the registry's file; who is there it hears from routers.
        await eventually(lambda: half_open(stage, "f26-bad"))
        await bad.result("f26-bad", bad.held[0])
        await eventually(lambda: closed(stage, "f26-bad"))
        assert not stage.all_of(waiting, "STARTED")
        release = agent_registry_pb2.ReleaseAgentRequest(agent_id="f26-held")
        await stage.registry.ReleaseAgent(release)
        await stage.until(waiting, "STARTED")
        await bad.result("f26-held", bad.held[1])
        await stage.ended(probed, waiting)


async def test_a_quarantined_agent_gets_nothing_for_starting_anew_nor_when_its_router_does(
    stage: Stage,
) -> None:
    wire = stage.wire(kind=Bad)
    await wire.hello("anew", "anew", max_concurrency=4)
    await stage.until_status("anew", "IDLE")
    hold = agent_registry_pb2.QuarantineAgentRequest(agent_id="anew", reason="odd answers")
    await stage.registry.QuarantineAgent(hold)
    waiting = await stage.submit("anew", *["sleep 0"] * 4)

    for start in range(5):
        if start:
            await wire.send(AgentFrame(agent_id="anew", goodbye=session_pb2.Goodbye()))
            await stage.until_status("anew", "OFFLINE")
        await wire.drop()
        if start == 3:
            await stage.restart("routing")
        wire = stage.wire(kind=Bad)
        await wire.hello("anew", "anew", max_concurrency=4, instance_id=f"anew-{start}")
        await stage.until_status("anew", "QUARANTINED")
        # Whoever can do anything now is free: had the agent been, it would have these tasks.
        await stage.worked(f"other-{start}", "other")
        await stage.ended(await stage.submit_one("other", "sleep 0"))

    assert [stage.of(task_id) for task_id in waiting] == [["CREATED", "QUEUED"]] * 4


async def test_a_quarantine_outlasts_the_death_of_registry_and_router_at_once(
    stage: Stage,
) -> None:
    await stage.worked("held", "held")
    hold = agent_registry_pb2.QuarantineAgentRequest(agent_id="held", reason="odd answers")
    await stage.registry.QuarantineAgent(hold)

    await stage.kill("agent_registry")
    await stage.kill("routing")
    await stage.start("agent_registry")
    await stage.start("routing")

    await stage.until_status("held", "QUARANTINED")
    waiting = await stage.submit_one("held", "sleep 0")
    await stage.registry.ReleaseAgent(agent_registry_pb2.ReleaseAgentRequest(agent_id="held"))
    await stage.ended(waiting)
    assert (await stage.story(waiting))[-1] == "COMPLETED"
