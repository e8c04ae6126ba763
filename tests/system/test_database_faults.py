"""A real database on a disk that fails to sync, or is slow to: what was promised is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest

from services.kernel.rpc import from_rpc_error
from tests.support.processes import Process, Processes
from tests.support.sync_faults import Disk, faulty
from tests.support.waiting import eventually
from tests.task_scheduler.serving import Served, spec
from tests.task_scheduler.test_recovery import Machine, all_ids, shared, whole_log

SUBMITTERS = 4
AGAIN = ("UNAVAILABLE", "DEADLINE_EXCEEDED")


@pytest.fixture(scope="module")
def disk() -> Iterator[Disk]:
    with faulty() as started:
        yield started


class Clients:
    """Submit, ask again what was not answered, and remember what they were promised."""

    def __init__(self, served: Served, prefix: str) -> None:
        self.acked: dict[str, str] = {}
        self._served = served
        self._prefix = prefix

    async def submit(self, number: int) -> None:
        count = 0
        while True:
            kind = "podium-retry:" if count % 2 else ""
            request_id = f"{kind}{self._prefix}{number}-{count}"
            self.acked[request_id] = await self.answered(request_id)
            count += 1

    async def answered(self, request_id: str) -> str:
        """Returns the task of a request, however often it has to be asked for."""
        while True:
            try:
                return (await self._served.submit(spec(request_id=request_id)))[0]
            except grpc.aio.AioRpcError as error:
                assert from_rpc_error(error).code in AGAIN, error
                await asyncio.sleep(0.05)

    async def more(self, count: int = 40) -> None:
        """Waits until so many more were answered."""
        before = len(self.acked)
        await eventually(lambda: len(self.acked) >= before + count, within_s=30.0)


@asynccontextmanager
async def submitting(served: Served, prefix: str) -> AsyncIterator[Clients]:
    clients = Clients(served, prefix)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(clients.submit(number)) for number in range(SUBMITTERS)]
        try:
            yield clients
        finally:
            for task in tasks:
                task.cancel()


@asynccontextmanager
async def scheduler(
    processes: Processes, disk: Disk, data: Path
) -> AsyncIterator[tuple[Process, Served]]:
    # A lease that outlives the restart of the database, as in production.
    machine = Machine(processes, data, **{**shared(disk.url), "PODIUM_OWNER_LEASE_S": "6"})
    process = machine.start()
    async with machine.served(process) as served:
        yield process, served


async def survived(served: Served, disk: Disk, faults: int) -> dict[str, str]:
    """Lets so many syncs fail under load, and returns what was promised when it was all kept."""
    async with submitting(served, "fail") as clients:
        await clients.more()
        for _ in range(faults):
            panics = disk.panics
            disk.fail_once()
            await eventually(lambda: disk.panics > panics)  # noqa: B023 - awaited in this turn
            await clients.more(20)

    for request_id, task_id in clients.acked.items():
        assert await clients.answered(request_id) == task_id
    # What was in doubt is there once or not at all.
    ids = await all_ids(served)
    assert set(ids) >= set(clients.acked.values()) and len(ids) == len(set(ids))
    events = await whole_log(served)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return clients.acked


async def test_f34_a_database_that_cannot_sync_restarts_and_nothing_acknowledged_is_lost(
    processes: Processes, disk: Disk, tmp_path: Path
) -> None:
    async with scheduler(processes, disk, tmp_path) as (process, served):
        await survived(served, disk, faults=3)

        assert process.popen.poll() is None


async def test_f29_a_database_that_is_slow_to_sync_delays_answers_and_bounds_what_waits(
    processes: Processes, disk: Disk, tmp_path: Path
) -> None:
    async with scheduler(processes, disk, tmp_path) as (process, served):
        async with submitting(served, "slow") as clients:
            await clients.more()
            disk.slow(300)
            try:
                await clients.more(SUBMITTERS * 3)
            finally:
                disk.heal()
            await clients.more()

        for request_id, task_id in clients.acked.items():
            assert await clients.answered(request_id) == task_id
        assert process.popen.poll() is None
        assert "another scheduler owns the log" not in process.output()
