"""The task path with real processes: scheduler, registry, routing, analytics and agents."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from podium.sdk.client import Client
from podium.sdk.errors import NotFound, TaskFailed
from podium.sdk.handle import TaskHandle
from podium.sdk.settings import Settings
from podium.sim.crew import Plan
from podium.sim.fleet import Snapshot, experiment
from podium.v1 import analytics_pb2, event_pb2, task_pb2
from tests.support.processes import Process, Processes
from tests.support.waiting import eventually
from tests.system.suite import SERVICES, Suite

TERMINAL = {
    event_pb2.Event.TYPE_COMPLETED,
    event_pb2.Event.TYPE_FAILED,
    event_pb2.Event.TYPE_CANCELED,
}


# One suite for all: each test has agents and tasks of its own, and leaves every service running.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def suite(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Suite]:
    folder = tmp_path_factory.mktemp("suite")
    with Processes(folder / "logs") as processes:
        running = Suite(processes, folder / "data")
        await running.start(*SERVICES)
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(suite: Suite) -> AsyncIterator[Client]:
    async with Client(Settings.from_environment(suite.environ), inline=True) as connected:
        yield connected


async def agent(processes: Processes, suite: Suite, agent_id: str, *, capacity: int = 4) -> Process:
    """Starts an agent and waits until it is at work."""
    process = processes.python(
        "-m", "tests.system.agents", agent_id, str(capacity), environ=suite.environ
    )
    await asyncio.get_running_loop().run_in_executor(None, process.wait_for, "agents at work")
    return process


async def submit(client: Client, count: int, **payload: Any) -> list[TaskHandle]:
    numbers = range(count)
    return await asyncio.gather(
        *(client.submit("echo", {"number": number, **payload}) for number in numbers)
    )


async def results(
    client: Client, tasks: list[TaskHandle], within_s: float = 40.0
) -> list[dict[str, Any]]:
    """Returns the results, or fails with all that is known of the first task without one."""
    try:
        async with asyncio.timeout(within_s):
            return [await task.result() for task in tasks]
    except TimeoutError:
        stuck = next(task for task in tasks if not task.done)
        raise AssertionError(f"no result: {await client.explain(stuck.task_id)}") from None


async def ends(client: Client, tasks: list[TaskHandle]) -> Counter[str]:
    """Returns how many terminal events the log has for each of the tasks."""
    left = {task.task_id for task in tasks}
    counted: Counter[str] = Counter()
    # What is submitted last ends last in the log: everything before it has been seen by then.
    last = await client.submit("nobody-does-this")
    await last.cancel()
    async with asyncio.timeout(20):
        async for event in client.watch(cursor=tasks[0].cursor):
            if event.type in TERMINAL and event.task_id in left:
                counted[event.task_id] += 1
            if event.type in TERMINAL and event.task_id == last.task_id:
                break
    return counted


async def running(client: Client, count: int) -> bool:
    stats = await client.queue_stats()
    states = {each.state: each.count for each in stats.states}
    return states.get(task_pb2.Task.STATE_RUNNING, 0) == count


def once(tasks: list[TaskHandle]) -> Counter[str]:
    return Counter(task.task_id for task in tasks)


async def test_a_task_is_done_and_everything_about_it_can_be_told(
    suite: Suite, client: Client, processes: Processes
) -> None:
    await agent(processes, suite, "a1")
    task = (await submit(client, 1))[0]

    assert await results(client, [task]) == [{"number": 0, "agent": "a1", "attempt": 1}]
    types = [event_pb2.Event.Type.Name(event.type) async for event in task.events()]
    assert types == [f"TYPE_{n}" for n in ("CREATED", "QUEUED", "ASSIGNED", "STARTED", "COMPLETED")]
    explained = await client.explain(task.task_id)
    assert explained.decisions[0].decision.agent_id == "a1"
    assert task.task_id in [each.task_id async for each in client.list()]
    assert "a1" in [each.agent_id for each in await client.agents()]


async def test_the_trace_of_a_task_is_connected_across_client_services_and_agent(
    suite: Suite, client: Client, processes: Processes
) -> None:
    await agent(processes, suite, "b1")
    task = (await submit(client, 1))[0]
    await results(client, [task])
    spans: dict[str, analytics_pb2.Span] = {}

    async def complete() -> bool:
        try:
            trace = await client.trace(task.task_id)
        except NotFound:
            return False
        spans.update({span.name: span for span in trace.spans})
        return len(spans) == 7

    await eventually(complete, told=lambda: str(sorted(spans)))

    parents = {
        name: next((p.name for p in spans.values() if p.span_id == span.parent_span_id), "")
        for name, span in spans.items()
    }
    assert parents == {
        "submit": "",
        "queue": "submit",
        "route": "submit",
        "assign": "route",
        "execute": "assign",
        "inside": "execute",
        "complete": "submit",
    }


async def test_a_failed_attempt_is_repeated_on_another_agent_and_a_hopeless_task_ends(
    suite: Suite, client: Client, processes: Processes
) -> None:
    await agent(processes, suite, "c1")
    await agent(processes, suite, "c2")
    # Few enough to leave the breakers alone: they would take one of the two away.
    tasks = await submit(client, 4, fail_count=1)

    assert {each["attempt"] for each in await results(client, tasks)} == {2}
    for task in tasks:
        first, second = (await client.get(task.task_id)).attempts
        assert first.agent_id != second.agent_id
        assert first.failure.reason == "TOLD_TO_FAIL"
    hopeless = await client.submit("echo", {"number": 0, "fail_count": 9}, max_retries=1)
    with pytest.raises(TaskFailed) as caught:
        await hopeless.result(20)
    assert caught.value.reason == "TOLD_TO_FAIL"
    dead = await client.get(hopeless.task_id)
    assert dead.state == task_pb2.Task.STATE_FAILED
    assert dead.attempt_count == 2


async def test_a_killed_agents_tasks_are_done_by_another(
    suite: Suite, client: Client, processes: Processes
) -> None:
    victim = await agent(processes, suite, "d1")
    tasks = await submit(client, 4, hang_count=1)
    await eventually(lambda: running(client, 4))
    await agent(processes, suite, "d2")
    victim.kill()

    done = await results(client, tasks, within_s=20)
    assert {(each["agent"], each["attempt"]) for each in done} == {("d2", 2)}
    assert await ends(client, tasks) == once(tasks)


async def test_a_killed_routing_costs_no_attempt_and_every_result_arrives_once(
    suite: Suite, client: Client, processes: Processes
) -> None:
    for number in range(2):
        await agent(processes, suite, f"e{number}", capacity=8)
    tasks = await submit(client, 60, work_s=0.3)
    await eventually(lambda: running(client, 16))
    await suite.kill_and_start("routing")

    answers = await results(client, tasks)
    assert sorted(each["number"] for each in answers) == list(range(60))
    assert {each["attempt"] for each in answers} == {1}
    assert await ends(client, tasks) == once(tasks)


async def test_a_killed_scheduler_forgets_nothing_it_has_acknowledged(
    suite: Suite, client: Client, processes: Processes
) -> None:
    await agent(processes, suite, "f1", capacity=8)
    tasks = await submit(client, 60, work_s=0.2)
    await eventually(lambda: running(client, 8))
    await suite.kill_and_start("task_scheduler")
    tasks += await submit(client, 5)

    answers = await results(client, tasks)
    assert len(answers) == 65
    assert {each["attempt"] for each in answers} == {1}
    assert await ends(client, tasks) == once(tasks)


async def test_a_stopped_agent_finishes_what_it_has_and_takes_nothing_new(
    suite: Suite, client: Client, processes: Processes
) -> None:
    leaving = await agent(processes, suite, "g1", capacity=2)
    tasks = await submit(client, 6, work_s=0.5)
    await eventually(lambda: running(client, 2))
    leaving.signal(signal.SIGTERM)
    await asyncio.get_running_loop().run_in_executor(None, leaving.wait)
    await agent(processes, suite, "g2")

    answers = await results(client, tasks)
    assert Counter(each["agent"] for each in answers) == {"g1": 2, "g2": 4}
    assert {each["attempt"] for each in answers} == {1}
    assert leaving.popen.returncode == 0


async def test_a_simulated_fleet_does_its_load_and_reports(suite: Suite) -> None:
    plan = Plan(agent_count=6, profile="fast_accurate", prefix="fleet", types=["search.rank"])
    seen: list[Snapshot] = []
    report = await experiment(
        plan,
        settings=Settings.from_environment(suite.environ),
        rate=100.0,
        duration_s=1.0,
        interval_s=0.2,
        watch=seen.append,
    )

    assert (report.submitted, report.hosts, report.unfinished) == (100, 2, 0)
    # Each attempt fails with 5 in 100; that all of a task's do is next to impossible.
    assert report.completed == 100
    assert 0 < report.latency_p50_ms <= report.latency_p99_ms <= report.latency_max_ms
    assert report.assignment_p50_ms is not None and report.assignment_p99_ms is not None
    assert 0 <= report.assignment_p50_ms <= report.assignment_p99_ms <= report.latency_max_ms
    assert sum(said["accepted"] for said in report.hosts_said) >= 100
    assert seen[-1].completed_count <= 100
