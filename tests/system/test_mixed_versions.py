"""A rolling upgrade and back: programs of two versions on one database, under load.

The newer one is this one with a migration more, as the next release would have it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import grpc.aio
import pytest

from podium.v1 import event_pb2
from services.kernel.options import dial
from services.kernel.rpc import from_rpc_error
from services.task_scheduler.adapters.database import SQL, Database
from services.task_scheduler.adapters.statements import migrations
from tests.support.processes import ROOT, Process, Processes
from tests.support.waiting import eventually
from tests.task_scheduler.serving import Served, spec
from tests.task_scheduler.test_recovery import all_ids, whole_log

SCHEMA = len(migrations("postgres"))
NEXT = (
    f"""\
-- readable by schema: {SCHEMA}

-- Why a group was written; only the newer program knows of it.
ALTER TABLE podium_groups ADD COLUMN note text;
CREATE TABLE podium_notes (partition integer PRIMARY KEY, note text NOT NULL);
""",
    f"""\
-- readable by schema: {SCHEMA}

-- A release later, taken together with the one before by who skips it.
ALTER TABLE podium_leases ADD COLUMN since timestamptz NOT NULL DEFAULT now();
CREATE INDEX podium_groups_by_time ON podium_groups (partition, wall_ms);
""",
)
BREAKING = f"""\
-- readable by schema: {SCHEMA + 3}

-- What the older programs write has another name now.
ALTER TABLE podium_groups RENAME COLUMN frames TO events;
"""
RUN = "import runpy, sys; sys.path.insert(0, {0!r}); runpy.run_module({1!r}, run_name='__main__')"
MODULE = "services.task_scheduler"
CLIENTS = 3


class Fleet:
    """Schedulers of either version on one database, and clients who know all of them."""

    def __init__(
        self,
        processes: Processes,
        stack: AsyncExitStack,
        url: str,
        place: Path,
        partitions: int,
    ) -> None:
        self.acked: dict[str, str] = {}
        self._processes = processes
        self._stack = stack
        self._place = place
        self._environ = {
            "PODIUM_JOURNAL": "postgres",
            "PODIUM_POSTGRES_URL": url,
            "PODIUM_OWNER_LEASE_S": "2",
            "PODIUM_PARTITIONS": str(partitions),
            "PODIUM_DATA_DIR": str(place / "data"),
            "PODIUM_TASK_SCHEDULER_PORT": "0",
            "PODIUM_METRICS_PORT_OFFSET": "0",
            "PODIUM_OTLP_ENDPOINT": "off",
        }
        self._members: list[Served] = []

    def begin(self, *steps: str) -> Process:
        """Starts one of a version that has some more migrations."""
        root = self._newer(steps) if steps else ROOT
        path = f"{root}{os.pathsep}{ROOT / 'clients' / 'python'}"
        environ = {**self._environ, "PYTHONPATH": path}
        return self._processes.python("-c", RUN.format(str(root), MODULE), environ=environ)

    async def start(self, *steps: str) -> tuple[Process, Served]:
        """Starts one and returns when it answers, itself or through the owner."""
        return await self.joined(self.begin(*steps))

    async def joined(self, process: Process) -> tuple[Process, Served]:
        """Returns one that was started when it answers."""
        port = await asyncio.to_thread(process.wait_for, r"listening on [\d.]+:(\d+)")
        await asyncio.to_thread(process.wait_for, "task_scheduler is ready")
        channel = dial(f"127.0.0.1:{port[1]}")
        self._stack.push_async_callback(channel.close)
        self._members.append(Served(channel, None))
        return process, self._members[-1]

    async def stop(self, member: tuple[Process, Served]) -> None:
        """Lets one hand over and end, as an upgrade does."""
        self._members.remove(member[1])
        member[0].signal(signal.SIGTERM)
        assert await asyncio.to_thread(member[0].wait) == 0, member[0].output()

    async def submit(self, number: int) -> None:
        """Submits for ever, at one member after the other; a refusal is asked again.

        Each client is a tenant of its own, so that their tasks lie in several partitions.
        """
        for count in itertools.count():
            # Both kinds, also across versions that keep them in one table and in two.
            kind = "podium-retry:" if count % 2 else ""
            request_id = f"{kind}q{number}-{count}"
            self.acked[request_id] = await self.answered(request_id)

    async def answered(self, request_id: str) -> str:
        tenant = "tenant-" + request_id.partition("q")[2].partition("-")[0]
        for turn in itertools.count():
            member = self._members[turn % len(self._members)]
            try:
                return (await member.submit(spec(tenant=tenant, request_id=request_id)))[0]
            except grpc.aio.AioRpcError as error:
                assert from_rpc_error(error).code == "UNAVAILABLE", error
                await asyncio.sleep(0.02)
        raise AssertionError

    async def more(self) -> None:
        """Waits until a good many more submits were acknowledged."""
        wanted = len(self.acked) + 40
        await eventually(lambda: len(self.acked) >= wanted)

    def _newer(self, steps: Sequence[str]) -> Path:
        root = self._place / f"newer-{len(steps)}"
        if not root.exists():
            ignored = shutil.ignore_patterns("static")
            shutil.copytree(ROOT / "services", root / "services", ignore=ignored)
            sql = root / "services" / "task_scheduler" / "adapters" / "sql" / "postgres"
            for number, step in enumerate(steps, SCHEMA + 1):
                (sql / f"{number:04d}_step.sql").write_text(step)
        return root


@asynccontextmanager
async def loaded(fleet: Fleet) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(fleet.submit(number)) for number in range(CLIENTS)]
        yield
        for task in tasks:
            task.cancel()


async def schema_of(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        found = await connection.fetchval("SELECT value FROM podium_about WHERE name = 'schema'")
    finally:
        await connection.close()
    return int(found)


@pytest.fixture
async def fleet(
    request: pytest.FixtureRequest, processes: Processes, postgres_url: str, tmp_path: Path
) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        yield Fleet(processes, stack, postgres_url, tmp_path, request.param)


@pytest.mark.parametrize("fleet", [1], indirect=True)
async def test_f47_schedulers_are_upgraded_and_taken_back_one_by_one_and_nothing_fails(
    fleet: Fleet, postgres_url: str
) -> None:
    old = await fleet.start()
    async with loaded(fleet):
        await fleet.more()
        # The newer one changes the tables while the older one writes to them.
        new = await fleet.start(NEXT[0])
        assert await schema_of(postgres_url) == SCHEMA + 1
        await fleet.more()
        await fleet.stop(old)
        await fleet.more()
        # And back: the older program finds tables of which it does not know all.
        old = await fleet.start()
        await fleet.more()
        await fleet.stop(new)
        await fleet.more()

    await nothing_is_lost(fleet, old[1])
    assert await schema_of(postgres_url) == SCHEMA + 1


@pytest.mark.parametrize("fleet", [4], indirect=True)
async def test_f47_two_releases_are_taken_at_once_by_two_that_start_together(
    fleet: Fleet, postgres_url: str
) -> None:
    old = await fleet.start()
    async with loaded(fleet):
        await fleet.more()
        # One makes the steps and the other waits for it; the older one writes all the time.
        begun = [fleet.begin(*NEXT), fleet.begin(*NEXT)]
        new, other = [await fleet.joined(process) for process in begun]
        assert await schema_of(postgres_url) == SCHEMA + 2
        await fleet.more()
        # The one of the release between finds more than it knows.
        between = await fleet.start(NEXT[0])
        await fleet.stop(old)
        await fleet.more()
        await fleet.stop(new)
        await fleet.stop(other)
        await fleet.more()

    await nothing_is_lost(fleet, between[1])
    assert await schema_of(postgres_url) == SCHEMA + 2


@pytest.mark.parametrize("fleet", [1], indirect=True)
async def test_f47_behind_a_step_that_breaks_with_it_an_older_one_refuses_to_start(
    fleet: Fleet, postgres_url: str
) -> None:
    database = Database(postgres_url, partitions=1)
    await database.open()
    # Made by hand, since this program cannot work behind it either.
    for step in (*NEXT, BREAKING):
        await database.connected.execute(step)
    await database.connected.execute(SQL["set_schema"], str(SCHEMA + 3), str(SCHEMA + 3))

    refused = fleet.begin()
    assert await asyncio.to_thread(refused.wait) != 0
    assert "was written by a newer Podium" in refused.output()
    # It has changed nothing.
    assert await database.connected.fetchval("SELECT sum(epoch) FROM podium_partitions") == 0
    assert await schema_of(postgres_url) == SCHEMA + 3
    await database.close()


async def nothing_is_lost(fleet: Fleet, served: Served) -> None:
    for request_id, task_id in fleet.acked.items():
        assert await fleet.answered(request_id) == task_id
    assert set(await all_ids(served)) >= set(fleet.acked.values())
    events = await whole_log(served)
    logs: dict[int, list[event_pb2.Event]] = {}
    for event in events:
        logs.setdefault(event.partition, []).append(event)
    for log in logs.values():
        assert [event.seq for event in log] == list(range(1, len(log) + 1))
    created = [each.task_id for each in events if each.type == event_pb2.Event.TYPE_CREATED]
    assert len(created) == len(set(created))
    epochs = [
        len([each for each in log if each.type == event_pb2.Event.TYPE_EPOCH_BEGUN])
        for log in logs.values()
    ]
    assert max(epochs) >= 3, "the old, the new and the old again have owned a log"
