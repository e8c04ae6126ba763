"""Several schedulers on one database: one owns the log, the others pass on and take over."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest

from podium.v1 import event_pb2, task_scheduler_pb2
from podium.v1.task_pb2 import Task
from services.kernel.options import dial
from services.kernel.rpc import from_rpc_error
from tests.support.processes import Process, Processes
from tests.support.waiting import eventually
from tests.task_scheduler.serving import Served, spec
from tests.task_scheduler.test_recovery import whole_log

LEASE_S = 2.0
FOR_EVER = {"PODIUM_OWNER_LEASE_S": "3600"}
"""For what must not wait until a lease runs out."""


class Replica(Served):
    """One scheduler process with a stub for it."""

    def __init__(self, channel: grpc.aio.Channel, process: Process, port: int) -> None:
        super().__init__(channel, None)
        self.process = process
        self.port = port


Start = Callable[..., "asyncio.Future[Replica]"]


@asynccontextmanager
async def replicas(
    processes: Processes, url: str, data: Path, partitions: int = 1
) -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def start(**more: str) -> Replica:
            process = processes.python(
                "-m",
                "services.task_scheduler",
                environ={
                    "PODIUM_JOURNAL": "postgres",
                    "PODIUM_POSTGRES_URL": url,
                    "PODIUM_OWNER_LEASE_S": str(LEASE_S),
                    "PODIUM_PARTITIONS": str(partitions),
                    "PODIUM_DATA_DIR": str(data),
                    "PODIUM_TASK_SCHEDULER_PORT": "0",
                    "PODIUM_METRICS_PORT_OFFSET": "0",
                    "PODIUM_OTLP_ENDPOINT": "off",
                    **more,
                },
            )
            port = int(process.wait_for(r"listening on [\d.]+:(\d+)")[1])
            process.wait_for(r"task_scheduler is ready")
            channel = dial(f"127.0.0.1:{port}")
            stack.push_async_callback(channel.close)
            return Replica(channel, process, port)

        yield start  # type: ignore[misc]  # called as a function that is awaited


@pytest.fixture
async def start(processes: Processes, postgres_url: str, tmp_path: Path) -> AsyncIterator[Start]:
    async with replicas(processes, postgres_url, tmp_path) as made:
        yield made


async def test_who_knows_all_replicas_goes_on_with_the_next(start: Start) -> None:
    first, second = await start(), await start()
    async with dial(f"127.0.0.1:{first.port},127.0.0.1:{second.port}") as channel:
        both = Served(channel, None)
        task_id = await submitted(both, "q1")
        first.process.signal(signal.SIGTERM)
        assert first.process.wait() == 0

        assert await submitted(both, "q1") == task_id
        assert (await second.get(task_id)).task_id == task_id


async def submitted(replica: Served, request_id: str, within_s: float = 20.0) -> str:
    """Submit until it is answered, as clients do: the request id makes it one task."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            return (await replica.submit(spec(request_id=request_id)))[0]
        except grpc.aio.AioRpcError as error:
            assert from_rpc_error(error).code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"), error
            assert time.monotonic() < deadline, error
            await asyncio.sleep(0.02)


async def test_every_replica_answers_as_the_owner_does(start: Start) -> None:
    owner = await start()
    other = await start()
    first = (await owner.submit(spec()))[0]
    second = (await other.submit(spec("else")))[0]

    assert (await other.get(first)).task_id == first
    canceled = await other.stub.CancelTasks(task_scheduler_pb2.CancelTasksRequest(task_ids=[first]))
    assert list(canceled.task_ids) == [first]
    assert (await owner.get(first)).state == Task.STATE_CANCELED
    # Refusals pass as they are, streams both ways too.
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await other.get("00-000000000000-0000000000")
    assert from_rpc_error(refused.value).reason == "TASK_NOT_FOUND"
    async with other.router("else") as router:
        grant = await router.grant()
        assert grant.task_id == second
        assert (await router.complete(grant)).verdict == 1
    events = await whole_log(other)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events == await whole_log(owner)


async def test_when_the_owner_is_killed_another_takes_over_and_nothing_acknowledged_is_lost(
    start: Start,
) -> None:
    owner = await start()
    other = await start()
    acked: dict[str, str] = {}
    stop = asyncio.Event()

    async def load(number: int) -> None:
        count = 0
        while not stop.is_set():
            request_id = f"q{number}-{count}"
            acked[request_id] = await submitted(other, request_id)
            count += 1

    loading = [asyncio.ensure_future(load(number)) for number in range(4)]
    await eventually(lambda: len(acked) >= 40)
    owner.process.signal(signal.SIGKILL)
    before = len(acked)
    await eventually(lambda: len(acked) >= before + 40, within_s=30)
    stop.set()
    await asyncio.gather(*loading)

    for request_id, task_id in acked.items():
        assert await submitted(other, request_id) == task_id
    events = await whole_log(other)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    created = [e.task_id for e in events if e.type == event_pb2.Event.TYPE_CREATED]
    assert sorted(created) == sorted(acked.values())
    epochs = [e for e in events if e.type == event_pb2.Event.TYPE_EPOCH_BEGUN]
    assert len(epochs) == 2


async def test_a_stop_hands_over_at_once(start: Start) -> None:
    owner = await start(**FOR_EVER)
    other = await start(**FOR_EVER)
    async with owner.router("work") as router:
        task_id = await submitted(owner, "q1")
        grant = await router.grant()
        await router.start(grant)

        async def running() -> bool:
            return (await owner.get(task_id)).state == Task.STATE_RUNNING

        await eventually(running)
        owner.process.signal(signal.SIGTERM)
        other.process.wait_for(r"recovered 1 open tasks and 1 leases")

    assert await submitted(other, "q2") != task_id
    assert owner.process.wait() == 0
    # The agent's lease lives on, and no attempt was spent on the change.
    task = await other.get(task_id)
    assert (task.state, task.attempt_count, task.lease_epoch) == (
        Task.STATE_RUNNING,
        1,
        grant.lease_epoch,
    )


async def test_an_owner_that_was_held_up_finds_itself_shut_out(start: Start) -> None:
    owner = await start()
    other = await start()
    await submitted(owner, "q1")
    owner.process.signal(signal.SIGSTOP)
    taken = await submitted(other, "q2")

    owner.process.signal(signal.SIGCONT)
    # Whatever it is asked first, it never answers as the owner again: it refuses, or passes on.
    last = await submitted(owner, "q3")
    owner.process.wait_for(r"partition 0 is let go")
    assert (await other.get(last)).task_id == last
    # It lives on without the log, and passes on what it is asked.
    assert await submitted(owner, "q2") == taken
    assert (await owner.get(taken)).task_id == taken
    assert owner.process.popen.poll() is None
    events = await whole_log(owner)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
