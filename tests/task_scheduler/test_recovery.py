"""Real processes, killed at each edge of the write path: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Sequence
from pathlib import Path

import grpc.aio
import pytest

from podium.v1 import event_pb2, task_scheduler_pb2
from podium.v1.task_pb2 import Task
from services.kernel.options import dial
from services.task_scheduler.ports import FAILPOINTS
from tests.support.processes import Process, Processes
from tests.support.waiting import eventually
from tests.task_scheduler.serving import Served, spec

READY = r"is ready"
PASSES = 12
# Snapshots come one after the other, and what they hold is dropped at once.
SNAPSHOTS = {"PODIUM_SNAPSHOT_EVENTS": "40"}
COMPACTION = {**SNAPSHOTS, "PODIUM_LOG_RETENTION": "1ms"}


def is_commit(point: str) -> bool:
    """Tell the edges of the write path from those beside it."""
    return "snapshot" not in point and "compaction" not in point


class Machine:
    """Starts the scheduler again and again on the same data."""

    def __init__(self, processes: Processes, data_dir: Path, **environ: str) -> None:
        self._processes = processes
        self.partitions = int(environ.get("PODIUM_PARTITIONS", "1"))
        self._environ = {
            "PODIUM_DATA_DIR": str(data_dir),
            "PODIUM_TASK_SCHEDULER_PORT": "0",
            "PODIUM_METRICS_PORT_OFFSET": "0",
            "PODIUM_OTLP_ENDPOINT": "off",
            "PODIUM_STORAGE_RESERVE_BYTES": "4096",
            **environ,
        }

    def start(self, **environ: str) -> Process:
        return self._processes.python(
            "-m", "services.task_scheduler", environ={**self._environ, **environ}
        )

    @contextlib.asynccontextmanager
    async def served(self, process: Process):
        port = process.wait_for(r"listening on [\d.]+:(\d+)")[1]
        # One that stands by until the lease of a killed owner ends is ready before it answers.
        process.wait_for(rf"(?:recovered \d+ open tasks[\s\S]*){{{self.partitions}}}")
        process.wait_for(READY)
        channel = dial(f"127.0.0.1:{port}")
        try:
            yield Served(channel, None)
        finally:
            await channel.close()


JOURNALS = ("sqlite", "postgres")


@pytest.fixture
def machine(processes: Processes, tmp_path: Path, request: pytest.FixtureRequest) -> Machine:
    """A scheduler with its journal in a file, or where the test's parameter says."""
    return {"sqlite": in_sqlite, "postgres": in_postgres}[getattr(request, "param", "sqlite")](
        processes, tmp_path, request
    )


def in_sqlite(processes: Processes, tmp_path: Path, request: pytest.FixtureRequest) -> Machine:
    return Machine(processes, tmp_path / "data")


def in_postgres(processes: Processes, tmp_path: Path, request: pytest.FixtureRequest) -> Machine:
    url = request.getfixturevalue("postgres_url")
    return Machine(processes, tmp_path / "data", **shared(url))


def shared(url: str, partitions: int = 1) -> dict[str, str]:
    """Return the settings of a journal in a database whose owner is soon known to be dead."""
    return {
        "PODIUM_JOURNAL": "postgres",
        "PODIUM_POSTGRES_URL": url,
        "PODIUM_OWNER_LEASE_S": "0.5",
        "PODIUM_PARTITIONS": str(partitions),
    }


class Load:
    """Submits and completes tasks, and remembers what it was promised.

    Args:
        prefix: Begins the request ids.
        tenants: Whose tasks, in turn; by default the caller's, in the only partition.
    """

    def __init__(self, prefix: str = "q", tenants: Sequence[str] = ("",)) -> None:
        self._prefix = prefix
        self._tenants = tenants
        self.sent: list[str] = []
        self.acked: dict[str, str] = {}
        self.granted: set[tuple[str, int]] = set()
        self.settled: set[str] = set()

    async def submit(self, served: Served) -> None:
        while True:
            request_id = f"{self._prefix}{len(self.sent)}"
            tenant = self._tenants[len(self.sent) % len(self._tenants)]
            self.sent.append(request_id)
            asked = spec(request_id=request_id, tenant=tenant)
            while request_id not in self.acked:
                try:
                    self.acked[request_id] = (await served.submit(asked))[0]
                except grpc.aio.AioRpcError as error:
                    # A database that is slow for a moment is a reason to ask again, no more.
                    if "journal cannot be reached" not in str(error.details()):
                        raise
                    await asyncio.sleep(0.05)

    async def route(self, served: Served, partition: int = 0) -> None:
        async with served.router("work", partition=partition) as router:
            while True:
                grant = await router.grant()
                self.granted.add((grant.task_id, grant.lease_epoch))
                if len(self.granted) % 2:
                    settled = await router.complete(grant)
                    if settled.verdict == 1:
                        self.settled.add(grant.task_id)

    async def until_killed(self, served: Served, process: Process, submitters: int = 2) -> None:
        work = [asyncio.ensure_future(self.submit(served)) for _ in range(submitters)]
        for number in range(len(self._tenants)):
            work.append(asyncio.ensure_future(self.route(served, number)))
        await eventually(lambda: process.popen.poll() is not None, within_s=30)
        for one in work:
            one.cancel()
        await asyncio.gather(*work, return_exceptions=True)


@pytest.mark.parametrize("machine", JOURNALS, indirect=True)
@pytest.mark.parametrize("point", FAILPOINTS)
async def test_killed_anywhere_nothing_acknowledged_is_lost_and_nothing_invented(
    machine: Machine, point: str
) -> None:
    load = Load()
    environ = COMPACTION if "compaction" in point else SNAPSHOTS
    passes = PASSES if is_commit(point) else 2
    process = machine.start(PODIUM_FAILPOINTS=f"{point}=crash@{passes}", **environ)
    async with machine.served(process) as served:
        await load.until_killed(served, process)
    assert process.wait() == -signal.SIGKILL
    assert load.acked and load.granted, "the test saw no traffic before the kill"

    async with machine.served(machine.start(**environ)) as served:
        for task_id in load.acked.values():
            assert (await served.get(task_id)).task_id == task_id
        for task_id in load.settled:
            assert (await served.get(task_id)).state == Task.STATE_COMPLETED
        # Whoever was not answered asks again: one task for each request, whatever had happened.
        again = {r: (await served.submit(spec(request_id=r)))[0] for r in load.sent}
        assert again == {**again, **load.acked}
        assert await all_ids(served) == sorted(again.values())
        events = await whole_log(served)

    first_seq = events[0].seq
    assert [event.seq for event in events] == list(range(first_seq, first_seq + len(events)))
    assert first_seq == 1 or environ is COMPACTION
    assigned = {
        (event.task_id, event.lease_epoch)
        for event in events
        if event.type == event_pb2.Event.TYPE_ASSIGNED
    }
    # What left the process was durable before: a grant that the log does not know is a lie.
    assert first_seq > 1 or load.granted <= assigned
    epochs = [e.lease_epoch for e in events if e.type == event_pb2.Event.TYPE_ASSIGNED]
    assert epochs == sorted(set(epochs))
    assert not any(event.type == event_pb2.Event.TYPE_ATTEMPT_FAILED for event in events)


async def all_ids(served: Served) -> list[str]:
    ids: list[str] = []
    token = ""
    while True:
        request = task_scheduler_pb2.ListTasksRequest(page_size=1_000, page_token=token)
        page = await served.stub.ListTasks(request)
        ids += [task.task_id for task in page.tasks]
        token = page.next_page_token
        if not token:
            return sorted(ids)


async def whole_log(served: Served) -> list[event_pb2.Event]:
    events: list[event_pb2.Event] = []
    call = served.stub.WatchEvents(task_scheduler_pb2.WatchEventsRequest())
    while True:
        message = await asyncio.wait_for(call.read(), 10)
        assert message is not grpc.aio.EOF
        events += message.events
        if message.caught_up:
            call.cancel()
            return events


@pytest.mark.parametrize("machine", JOURNALS, indirect=True)
@pytest.mark.parametrize("point", [point for point in FAILPOINTS if is_commit(point)])
async def test_a_commit_that_fails_ends_the_process_and_what_it_promised_is_there(
    machine: Machine, point: str
) -> None:
    # Before the work or behind it: at `after_sync` it is done and reported as failed.
    load = Load()
    process = machine.start(PODIUM_FAILPOINTS=f"{point}=error@{PASSES}")
    async with machine.served(process) as served:
        await load.until_killed(served, process)

    assert process.wait() == 1
    assert load.acked, "the test saw no traffic before the failure"
    async with machine.served(machine.start()) as served:
        for task_id in load.acked.values():
            assert (await served.get(task_id)).task_id == task_id
        again = {r: (await served.submit(spec(request_id=r)))[0] for r in load.sent}
        assert again == {**again, **load.acked}


@pytest.mark.parametrize("machine", JOURNALS, indirect=True)
@pytest.mark.parametrize("point", [point for point in FAILPOINTS if not is_commit(point)])
async def test_a_snapshot_or_compaction_that_fails_holds_nobody_up(
    machine: Machine, point: str
) -> None:
    process = machine.start(PODIUM_FAILPOINTS=f"{point}=error", **COMPACTION)
    ids: list[str] = []
    async with machine.served(process) as served:

        async def failed() -> bool:
            ids.extend(await served.submit(*[spec("later") for _ in range(20)]))
            return "no snapshot now" in process.output()

        await eventually(failed, every_s=0.05)
        ids.extend(await served.submit(spec("later")))
        process.signal(signal.SIGKILL)
    process.wait()

    async with machine.served(machine.start()) as served:
        assert await all_ids(served) == sorted(ids)


@pytest.mark.parametrize("machine", JOURNALS, indirect=True)
@pytest.mark.parametrize("point", FAILPOINTS)
async def test_whichever_edge_is_slow_what_was_promised_is_kept(
    machine: Machine, point: str
) -> None:
    passes = PASSES if is_commit(point) else 1
    # A lease that outlasts all delays: one that runs out ends the streams of the load.
    environ = {**COMPACTION, "PODIUM_OWNER_LEASE_S": "3600"}
    process = machine.start(PODIUM_FAILPOINTS=f"{point}=delay:300@{passes}", **environ)
    load = Load()
    async with machine.served(process) as served:
        work = [asyncio.ensure_future(part(served)) for part in (load.submit, load.route)]
        await eventually(lambda: f"failpoint {point}: delay" in process.output())
        before = len(load.settled)
        await eventually(lambda: len(load.settled) >= before + 10, told=process.output)
        for one in work:
            one.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        for task_id in load.acked.values():
            assert (await served.get(task_id)).task_id == task_id
        for task_id in load.settled:
            assert (await served.get(task_id)).state == Task.STATE_COMPLETED


async def test_a_stop_hands_over_within_its_time_and_ends_well(machine: Machine) -> None:
    process = machine.start()
    async with machine.served(process) as served, served.router("work") as router:
        first_id, _ = await served.submit(spec(), spec("other"))
        await router.start(await router.grant())

        async def running() -> bool:
            return (await served.get(first_id)).state == Task.STATE_RUNNING

        await eventually(running)
        assert process.stop(within_s=10) == 0

    async with machine.served(machine.start()) as served:
        stats = await served.stub.GetQueueStats(task_scheduler_pb2.GetQueueStatsRequest())
        assert {one.state: one.count for one in stats.states} == {
            Task.STATE_RUNNING: 1,
            Task.STATE_QUEUED: 1,
        }


async def test_a_second_scheduler_on_the_same_data_says_so_and_ends(machine: Machine) -> None:
    first = machine.start()
    async with machine.served(first):
        second = machine.start()

        assert second.wait() == 1
        said = second.output()
        assert "another scheduler has the journal" in said
        assert "Traceback" not in said


def test_wrong_settings_are_told_together(machine: Machine) -> None:
    process = machine.start(PODIUM_JOURNAL="paper", PODIUM_FAILPOINTS="nowhere=crash")

    assert process.wait() == 2
    assert "PODIUM_JOURNAL" in process.output()
    assert "PODIUM_FAILPOINTS" in process.output()
