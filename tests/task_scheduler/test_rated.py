"""Rates over the wire: what tasks ask for, what clients see, and when the next is granted."""

from __future__ import annotations

import asyncio

from google.protobuf.duration_pb2 import Duration

from podium.v1 import task_scheduler_pb2
from podium.v1.task_pb2 import RateLimit, TaskSpec
from services.kernel.clock import SystemClock
from tests.task_scheduler.serving import Served, in_process, spec

PERIOD = Duration(nanos=200_000_000)


def rated(period: Duration = PERIOD) -> TaskSpec:
    return spec(rate_limits=[RateLimit(key="api", limit=2, period=period)])


async def test_the_next_starts_when_the_period_is_over_and_not_before(served: Served) -> None:
    clock = SystemClock()
    async with served.router("work") as router:
        began_s = clock.now().mono_s
        await served.submit(rated(), rated(), rated())
        for _ in range(3):
            await router.complete(await router.grant())

    assert clock.now().mono_s - began_s >= 0.2


async def test_who_waits_for_a_rate_is_told_so_by_the_queue_and_by_the_task(
    served: Served,
) -> None:
    hour = Duration(seconds=3600)
    async with served.router("work"):
        ids = await served.submit(rated(hour), rated(hour), rated(hour))
        stats = await served.stub.GetQueueStats(task_scheduler_pb2.GetQueueStatsRequest())
        request = task_scheduler_pb2.ExplainTaskRequest(task_id=ids[2])
        explained = await served.stub.ExplainTask(request)

    (row,) = stats.rate_keys
    assert (row.key, row.tenant, row.limit, row.period) == ("api", "default", 2, hour)
    assert (row.started_count, row.waiting_count) == (2, 1)
    made_ms = (await served.get(ids[0])).create_time.ToMilliseconds()
    assert 0 <= row.next_time.ToMilliseconds() - made_ms - 3_600_000 < 60_000
    assert "It waits for the rate of the key api" in explained.waiting_for


async def test_rates_of_the_settings_count_for_all_tasks_of_a_key(tmp_path) -> None:
    async with in_process(tmp_path, shared_rate_limits=(("api", (1, 3_600_000)),)) as served:
        async with served.router("work") as router:
            await served.submit(rated(), rated())
            await router.complete(await router.grant())
            await asyncio.sleep(0)
            stats = await served.stub.GetQueueStats(task_scheduler_pb2.GetQueueStatsRequest())

    assert [(row.tenant, row.limit, row.waiting_count) for row in stats.rate_keys] == [("", 1, 1)]
