"""The suite that agents are tested with behaves as the real one: both run the same scenarios."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from podium.sdk.agent import Agent
from podium.sdk.client import Client
from podium.sdk.context import Context
from podium.sdk.errors import FailedPrecondition, Final, InvalidArgument, Retryable, TaskFailed
from podium.sdk.host import AgentHost
from podium.sdk.settings import Settings
from podium.sdk.testing import Suite
from podium.v1 import event_pb2, task_pb2
from services.suite import started
from tests.support.ports import ports_of
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("task_scheduler", "agent_registry", "routing")


class World:
    """What a scenario needs; the same over either suite."""

    async def submit(self, task_type: str, payload: Any = None, **options: Any) -> Any:
        raise NotImplementedError

    async def reaches(self, task: Any, state: str) -> None:
        raise NotImplementedError

    async def log(self, task: Any) -> list[tuple[str, int, str]]:
        """Returns what happened: the event, its attempt, and for failures why."""
        raise NotImplementedError

    async def children(self, task: Any) -> list[str]:
        """Returns the types of a task's children."""
        raise NotImplementedError

    async def child(self, task: Any) -> Any:
        """Returns the first child of a task, when it is there."""
        raise NotImplementedError


class InProcess(World):
    def __init__(self, suite: Suite) -> None:
        self._suite = suite

    async def submit(self, task_type: str, payload: Any = None, **options: Any) -> Any:
        return await self._suite.submit(task_type, payload, **options)

    async def reaches(self, task: Any, state: str) -> None:
        await task.reaches(state)

    async def log(self, task: Any) -> list[tuple[str, int, str]]:
        while not task.done:
            await self._suite.advance(0.1)
        told = [(event.type, event.attempt, event.reason) for event in task.log]
        return [(kind, attempt, why if kind in WITH_REASON else "") for kind, attempt, why in told]

    async def children(self, task: Any) -> list[str]:
        tasks = self._suite.tasks
        return [each.spec.type for each in tasks if each.spec.parent_task_id == task.task_id]

    async def child(self, task: Any) -> Any:
        await self._suite.settle()
        return next(each for each in self._suite.tasks if each.spec.parent_task_id == task.task_id)


class Real(World):
    def __init__(self, client: Client) -> None:
        self._client = client

    async def submit(self, task_type: str, payload: Any = None, **options: Any) -> Any:
        return await self._client.submit(task_type, payload, **options)

    async def reaches(self, task: Any, state: str) -> None:
        number = task_pb2.Task.State.Value(f"STATE_{state}")

        async def is_there() -> bool:
            return (await self._client.get(task.task_id)).state == number

        await eventually(is_there)

    async def log(self, task: Any) -> list[tuple[str, int, str]]:
        told = []
        async for event in task.events():
            kind = event_pb2.Event.Type.Name(event.type).removeprefix("TYPE_").lower()
            reason = event.failed.failure.reason if kind in WITH_REASON else ""
            told.append((kind, event.attempt, reason))
        return told

    async def children(self, task: Any) -> list[str]:
        found = [each async for each in self._client.list()]
        children = [each for each in found if each.spec.parent_task_id == task.task_id]
        return [each.spec.type for each in reversed(children)]

    async def child(self, task: Any) -> Any:
        async def there() -> str:
            found = [each async for each in self._client.list()]
            ids = [each.task_id for each in found if each.spec.parent_task_id == task.task_id]
            return ids[0] if ids else ""

        return self._client.handle(await eventually(there))


WITH_REASON = ("attempt_failed", "failed", "canceled", "expired")
# Attempts are numbered where an agent has the task; elsewhere the two may differ.
NUMBERED = ("started", "attempt_failed", "completed")

Opening = Callable[..., Any]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def addresses(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    folder: Path = tmp_path_factory.mktemp("suite")
    # The code under test may be found by path alone.
    environ = {"PYTHONPATH": f"{ROOT}:{ROOT / 'clients' / 'python'}"}
    async with started(
        data_dir=folder, ports=ports_of(SERVICES), services=SERVICES, environ=environ
    ) as suite:
        yield Settings(
            task_scheduler=suite.addresses["task_scheduler"],
            agent_registry=suite.addresses["agent_registry"],
            routing=suite.addresses["routing"],
            otlp_endpoint="off",
        )


def bounded(agent: Agent, scenario: str) -> None:
    """Lets an agent also do what is bounded by budgets, deadlines and lineages."""

    @agent.handles(f"{scenario}.spend")
    async def spend(payload: dict[str, float], task: Context) -> None:
        task.usage(input_tokens=3, output_tokens=2, cost=payload["cost"])
        if payload.get("tells"):
            task.progress(0.5, "spent")
            await asyncio.Event().wait()
        raise Retryable("again", reason="AGAIN")

    @agent.handles(f"{scenario}.family")
    async def family(payload: int, task: Context) -> Any:
        if payload:
            await task.submit(f"{scenario}.family", payload - 1)
        await asyncio.Event().wait()

    @agent.handles(f"{scenario}.limits")
    async def limits(payload: Any, task: Context) -> Any:
        return task.deadline is not None


def working(scenario: str, *errors: Exception | None) -> list[Agent]:
    """Returns two agents that share a list of what to raise, one an attempt."""
    left = list(errors)
    agents = []
    for number in (1, 2):
        agent = Agent("worker", agent_id=f"{scenario}-{number}")

        @agent.handles(f"{scenario}.work")
        async def work(payload: Any, task: Context) -> Any:
            error = left.pop(0) if left else None
            if error is not None:
                raise error
            return payload

        @agent.handles(f"{scenario}.wait")
        async def wait(payload: Any, task: Context) -> None:
            await asyncio.Event().wait()

        @agent.handles(f"{scenario}.ask")
        async def ask(payload: Any, task: Context) -> Any:
            task.checkpoint({"asked": True})
            return [task.need_input("which?"), task.resume_from()]

        @agent.handles(f"{scenario}.parent")
        async def parent(payload: Any, task: Context) -> Any:
            child = await task.submit(f"{scenario}.work", payload, once="only")
            again = await task.submit(f"{scenario}.work", payload, once="only")
            assert child.task_id == again.task_id
            return await child.result()

        bounded(agent, scenario)
        agents.append(agent)
    return agents


async def completes(world: World, name: str) -> Any:
    task = await world.submit(f"{name}.work", {"n": 1})
    assert await task.result() == {"n": 1}
    return task


async def is_repeated(world: World, name: str) -> Any:
    task = await world.submit(f"{name}.work", "x")
    assert await task.result() == "x"
    return task


async def fails(world: World, name: str) -> Any:
    task = await world.submit(f"{name}.work", "x", max_retries=1)
    with pytest.raises(TaskFailed):
        await task.result()
    return task


async def is_cancelled(world: World, name: str) -> Any:
    task = await world.submit(f"{name}.wait")
    await world.reaches(task, "RUNNING")
    assert await task.cancel("enough")
    assert not await task.cancel()
    return task


async def times_out(world: World, name: str) -> Any:
    return await world.submit(f"{name}.wait", attempt_timeout_s=0.2, max_retries=1)


async def expires(world: World, name: str) -> Any:
    return await world.submit(
        f"{name}.work", capabilities=["nobody.has"], deadline=timedelta(seconds=0.3)
    )


async def expires_at_work(world: World, name: str) -> Any:
    return await world.submit(f"{name}.wait", deadline=timedelta(seconds=0.3))


async def asks(world: World, name: str) -> Any:
    task = await world.submit(f"{name}.ask")
    await world.reaches(task, "INPUT_REQUIRED")
    await task.provide_input("that")
    assert await task.result() == ["that", {"asked": True}]
    return task


async def has_a_child(world: World, name: str) -> Any:
    task = await world.submit(f"{name}.parent", 5)
    assert await task.result() == 5
    assert await world.children(task) == [f"{name}.work"]
    return task


async def waits_for_another(world: World, name: str) -> Any:
    first = await world.submit(f"{name}.work", 1, not_before=timedelta(seconds=0.3))
    task = await world.submit(f"{name}.work", 2, depends_on=[first.task_id])
    assert await task.result() == 2
    return task


async def waits_in_vain(world: World, name: str) -> Any:
    first = await world.submit(f"{name}.work", 1)
    return await world.submit(f"{name}.work", 2, depends_on=[first.task_id])


async def is_cancelled_with_its_children(world: World, name: str) -> Any:
    task = await world.submit(f"{name}.family", 1)
    child = await world.child(task)
    await world.reaches(child, "RUNNING")
    assert await task.cancel("enough")
    assert [kind for kind, _, why in await world.log(child) if why == "CANCELED"] == ["canceled"]
    return task


async def spends_more_than_it_has(world: World, name: str) -> Any:
    return await world.submit(f"{name}.spend", {"cost": 5.0}, max_cost=3.0)


async def is_stopped_when_it_has_spent(world: World, name: str) -> Any:
    return await world.submit(f"{name}.spend", {"cost": 0.0, "tells": True}, max_tokens=4)


async def waits_for_its_place(world: World, name: str) -> Any:
    first = await world.submit(f"{name}.wait", concurrency_keys=[name])
    await world.reaches(first, "RUNNING")
    task = await world.submit(f"{name}.work", 3, concurrency_keys=[name])
    assert await first.cancel()
    assert await task.result() == 3
    return task


async def waits_for_its_rate(world: World, name: str) -> Any:
    rates = [(name, 1, timedelta(seconds=0.3))]
    first = await world.submit(f"{name}.work", 1, rate_limits=rates)
    task = await world.submit(f"{name}.work", 2, rate_limits=rates)
    assert [await first.result(), await task.result()] == [1, 2]
    return task


async def is_refused(world: World, name: str) -> Any:
    for wanted in ("x@nope", "No Name"):
        with pytest.raises(InvalidArgument) as caught:
            await world.submit(f"{name}.work", 1, capabilities=[wanted])
        assert caught.value.reason == "INVALID_FIELD"
    task = await world.submit(f"{name}.ask")
    await world.reaches(task, "INPUT_REQUIRED")
    with pytest.raises(FailedPrecondition):
        await task.provide_input("that", question=1 << 40)
    await task.provide_input("that")
    assert await task.result() == ["that", {"asked": True}]
    return task


async def knows_its_deadline(world: World, name: str) -> Any:
    task = await world.submit(f"{name}.limits", attempt_timeout_s=5.0)
    assert await task.result() is True
    free = await world.submit(f"{name}.limits")
    assert await free.result() is False
    return task


SCENARIOS: list[tuple[Callable[[World, str], Awaitable[Any]], list[Exception]]] = [
    (completes, []),
    (is_repeated, [Retryable("busy", reason="BUSY"), ValueError("odd")]),
    (fails, [Retryable("busy", reason="BUSY")] * 2),
    (fails, [Final("never", reason="NEVER")]),
    (is_cancelled, []),
    (times_out, []),
    (expires, []),
    (expires_at_work, []),
    (asks, []),
    (has_a_child, []),
    (waits_for_another, []),
    (waits_in_vain, [Final("never", reason="NEVER")]),
    (is_cancelled_with_its_children, []),
    (spends_more_than_it_has, []),
    (is_stopped_when_it_has_spent, []),
    (knows_its_deadline, []),
    (waits_for_its_place, []),
    (waits_for_its_rate, []),
    (is_refused, []),
]


@asynccontextmanager
async def in_process(agents: list[Agent], settings: Settings) -> AsyncIterator[World]:
    async with Suite(*agents) as suite:
        yield InProcess(suite)


@asynccontextmanager
async def real(agents: list[Agent], settings: Settings) -> AsyncIterator[World]:
    # Inline, since the loop of these tests has done gRPC already: it waited for the services.
    host = AgentHost(agents, settings=settings, grace_s=0.0, inline=True)
    async with host, Client(settings, inline=True) as client:
        yield Real(client)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("scenario", "errors"),
    SCENARIOS,
    ids=[f"{number}-{run.__name__}" for number, (run, _) in enumerate(SCENARIOS)],
)
async def test_both_suites_tell_the_same_story(
    addresses: Settings, scenario: Callable[[World, str], Awaitable[Any]], errors: list[Exception]
) -> None:
    stories = []
    for opening in (in_process, real):
        name = scenario.__name__.replace("_", "-") + str(len(errors))
        async with opening(working(name, *errors), addresses) as world:
            told = await world.log(await scenario(world, name))
        stories.append([(k, n if k in NUMBERED else 0, why) for k, n, why in told])

    assert stories[0] == stories[1]


def test_agents_that_no_program_would_start_with_are_refused() -> None:
    agents = [Agent("twin", agent_id="twin") for _ in range(2)]
    with pytest.raises(ValueError, match="handles nothing"):
        Suite(agents[0])
    for agent in agents:

        @agent.handles("text.note")
        async def note(text: str) -> None: ...

    with pytest.raises(ValueError, match="agent_id of its own"):
        Suite(*agents)
