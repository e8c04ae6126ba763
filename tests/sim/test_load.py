from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from podium.sdk.client import Client
from podium.sim.load import Load, percentiles
from podium.v1 import task_pb2
from tests.sdk.fakes import FakeScheduler, scheduler_of, serving, settings


@pytest.fixture
async def scheduler() -> FakeScheduler:
    return FakeScheduler()


@pytest.fixture
async def client(scheduler: FakeScheduler) -> AsyncIterator[Client]:
    async with serving(scheduler_of(scheduler)) as address:
        connected = Client(settings(task_scheduler=address), inline=True, patience_s=0.0)
        async with connected:
            yield connected


async def test_tasks_arrive_at_their_rate_whether_or_not_they_are_done(
    scheduler: FakeScheduler, client: Client
) -> None:
    load = Load(client, rate=200.0, types=["a", "b"], payload_bytes=50)
    await load.run(0.5)

    assert load.tally.submitted_count == load.tally.open_count == 100
    assert not await load.drained(0.01)


async def test_what_becomes_of_the_tasks_is_counted_and_timed(
    scheduler: FakeScheduler, client: Client
) -> None:
    scheduler.completing = True
    load = Load(client, rate=400.0, types=["a"])
    await load.run(0.2)

    assert await load.drained(10)
    assert load.tally.completed_count == load.tally.submitted_count
    assert len(load.tally.latencies_s) == load.tally.completed_count
    assert min(load.tally.latencies_s) > 0


async def test_latency_counts_from_when_a_task_was_due(
    scheduler: FakeScheduler, client: Client
) -> None:
    scheduler.completing = True
    scheduler.answering.clear()
    load = Load(client, rate=100.0, types=["a"])
    running = asyncio.create_task(load.run(0.3))
    await asyncio.wait_for(running, 5)
    scheduler.answering.set()
    assert await load.drained(10)

    # The first was due 0.3 s before anybody answered, the last just before.
    assert max(load.tally.latencies_s) > 0.25


async def test_refused_and_failed_tasks_are_told_apart(
    scheduler: FakeScheduler, client: Client
) -> None:
    scheduler.failures = [(grpc.StatusCode.RESOURCE_EXHAUSTED, "BACKLOG_FULL")] * 1_000
    load = Load(client, rate=200.0, types=["a"])
    await load.run(0.1)
    assert await load.drained(10)
    scheduler.failures.clear()
    await load.run(0.1)
    await asyncio.sleep(0)
    for task_id in list(scheduler.tasks):
        await scheduler.end(task_id, task_pb2.Task.STATE_FAILED, "NO_LUCK")

    tally = load.tally
    assert tally.refusals == {"BACKLOG_FULL": tally.refused_count}
    assert tally.refused_count > 0


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentiles([]) == [0.0, 0.0, 0.0]
    assert percentiles([3.0]) == [3.0, 3.0, 3.0]
    assert percentiles([float(n) for n in range(100)]) == [50.0, 95.0, 99.0]
