"""What several schedulers at work on one database take in, against one that owns all of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from itertools import cycle, islice

import uvloop

from podium.v1 import task_scheduler_pb2
from services.task_scheduler.core.ownership import partition_of
from tests.bench.recovery import WITHIN_S, Instance, journals, task
from tests.bench.rows import Row
from tests.support.processes import Processes
from tests.support.waiting import eventually
from tests.task_scheduler.serving import Served

COUNT = 4
CALLERS = 16
BATCH_LEN = 50
SECONDS = 5.0


def tenants() -> list[str]:
    """Return a tenant of each partition."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < COUNT:
        found.setdefault(partition_of(f"tenant-{number}", COUNT), f"tenant-{number}")
        number += 1
    return [found[partition] for partition in range(COUNT)]


async def owners(served: Served) -> list[str]:
    """Return where the owner of each partition is."""
    request = task_scheduler_pb2.ListPartitionsRequest()
    return [one.owner_address for one in (await served.stub.ListPartitions(request)).partitions]


async def taken_in(
    processes: Processes, journal: Mapping[str, str], replicas: int, seconds: float, *, direct: bool
) -> float:
    """Submit batches of all tenants for a while; return the tasks a second.

    Args:
        processes: Starts the replicas.
        journal: Their settings.
        replicas: How many there are.
        seconds: How long.
        direct: Whether each tenant calls the owner of its partition, or any replica in turn.
    """
    environ = {**journal, "PODIUM_PARTITIONS": str(COUNT)}
    instances = [Instance(processes, environ) for _ in range(replicas)]
    for instance in instances:
        instance.start()
        await instance.ready()
    async with AsyncExitStack() as stack:
        served = {
            f"127.0.0.1:{one.port}": await stack.enter_async_context(one.served())
            for one in instances
        }
        asked = next(iter(served.values()))

        async def shared_out() -> bool:
            return {*await owners(asked)} == {*served}

        await eventually(shared_out, within_s=WITHIN_S)
        homes = dict(zip(tenants(), await owners(asked), strict=True))
        others = cycle(served.values())
        count = 0
        until = time.perf_counter() + seconds

        async def submit(tenant: str) -> None:
            nonlocal count
            while time.perf_counter() < until:
                batch = [task() for _ in range(BATCH_LEN)]
                for one in batch:
                    one.tenant = tenant
                to = served[homes[tenant]] if direct else next(others)
                taken = await to.submit(*batch)
                count += len(taken)

        await asyncio.gather(*(submit(tenant) for tenant in islice(cycle(homes), CALLERS)))
    for instance in instances:
        instance.kill()
    return count / seconds


def measure(scale: float) -> Sequence[Row]:
    """Measure one owner of all partitions, and two that share them."""
    seconds = max(1.0, SECONDS * scale)
    rows = []
    for replicas, direct, what in (
        (1, True, "1 owner of 4 partitions"),
        (2, True, "2 owners, each tenant calls its own"),
        (2, False, "2 owners, any is called"),
    ):
        with journals() as (processes, kinds):
            journal = kinds["PostgreSQL"]
            per_s = uvloop.run(taken_in(processes, journal, replicas, seconds, direct=direct))
        rows.append(Row(what, per_s, "tasks/s", note=f"{CALLERS} callers, batches of {BATCH_LEN}"))
    return rows
