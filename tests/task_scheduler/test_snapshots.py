"""Snapshots where they are stored, and when they are taken."""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc.aio
import pytest

from podium.v1 import task_pb2, task_scheduler_pb2
from podium.v1.task_pb2 import Payload
from services.kernel.errors import FailedPrecondition, OutOfRange
from services.kernel.instant import Instant
from services.kernel.rpc import from_rpc_error
from services.task_scheduler.adapters import snapshots
from services.task_scheduler.adapters.codec import ProtoCodec
from services.task_scheduler.adapters.failpoints import Failpoints
from services.task_scheduler.adapters.sqlite import SqliteJournal
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.restoring import Restoring
from services.task_scheduler.core.scheduler import Scheduler
from services.task_scheduler.loops.recovery import event_batch
from services.task_scheduler.ports import StorageFailed
from tests.contracts.test_journal import group, parts, replayed
from tests.support.waiting import eventually
from tests.task_scheduler.serving import Router, Served, refusal, spec, wire
from tests.task_scheduler.test_snapshot import state

NOW = Instant(1_000.0, 1_700_000_000_000)


async def opened(directory: Path, failpoints: str = "") -> SqliteJournal:
    journal = SqliteJournal(directory, reserve_bytes=4_096, failpoint=Failpoints(failpoints))
    await journal.open()
    return journal


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.snapshot-*"))


async def with_snapshots(directory: Path, *seqs: int) -> None:
    journal = await opened(directory)
    for seq in range(1, 7):
        await journal.append(group(seq))
    for seq in seqs:
        await journal.keep(seq, parts(b"state at", str(seq).encode()))
    await journal.close()


async def test_the_two_newest_are_kept(tmp_path: Path) -> None:
    await with_snapshots(tmp_path, 2, 4, 6)

    assert [path.name[-2:] for path in files(tmp_path)] == ["04", "06"]


@pytest.mark.parametrize("damage", [b"", b"podium snapshot 1\n", b"\0" * 4_000])
async def test_behind_a_damaged_one_recovery_takes_the_one_before(
    tmp_path: Path, damage: bytes
) -> None:
    await with_snapshots(tmp_path, 4, 6)
    files(tmp_path)[-1].write_bytes(damage)

    journal = await opened(tmp_path)
    snapshot = await journal.latest()

    assert snapshot is not None
    assert snapshot.seq == 4
    assert [one.first_seq for one in await replayed(journal, 4)] == [5, 6]
    await journal.close()


@pytest.mark.parametrize("place", [0, 30, 60, -40, -1])
async def test_a_flipped_bit_is_found_wherever_it_is(tmp_path: Path, place: int) -> None:
    await with_snapshots(tmp_path, 6)
    (path,) = files(tmp_path)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)

    journal = await opened(tmp_path)
    assert await journal.latest() is None
    assert len(await replayed(journal)) == 6
    await journal.close()


async def test_when_no_snapshot_is_whole_and_the_log_has_gone_nothing_is_invented(
    tmp_path: Path,
) -> None:
    await with_snapshots(tmp_path, 4, 6)
    journal = await opened(tmp_path)
    await journal.compact(1, 1 << 40)
    assert journal.compacted_seq == 4
    await journal.close()
    for path in files(tmp_path):
        path.unlink()

    journal = await opened(tmp_path)
    assert await journal.latest() is None
    with pytest.raises(FailedPrecondition, match="no whole snapshot") as refused:
        await replayed(journal)

    assert refused.value.reason == "JOURNAL_DAMAGED"
    await journal.close()


async def test_a_snapshot_of_another_log_is_refused(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    await with_snapshots(mine)
    journal = await opened(other)
    for seq in range(1, 7):
        await journal.append(group(seq, text="else"))
    await journal.keep(6, parts(b"state"))
    await journal.close()
    (path,) = files(other)
    path.rename(mine / path.name)

    journal = await opened(mine)
    assert await journal.latest() is not None
    with pytest.raises(FailedPrecondition, match="of another log"):
        await replayed(journal, 6)
    await journal.close()


@pytest.mark.parametrize(
    "point",
    [
        "before_snapshot_write",
        "before_snapshot_rename",
        "after_snapshot_rename",
        "after_snapshot_sync",
    ],
)
async def test_a_snapshot_that_fails_leaves_the_one_before(tmp_path: Path, point: str) -> None:
    await with_snapshots(tmp_path, 4)
    journal = await opened(tmp_path, f"{point}=error")
    assert await journal.latest() is not None
    await replayed(journal, 4)

    with pytest.raises(StorageFailed):
        await journal.keep(6, parts(b"state"))

    # The log goes on, and no half-written file is left or found.
    await journal.append(group(7))
    await journal.close()
    assert not [path for path in files(tmp_path) if path.suffix == ".tmp"]
    journal = await opened(tmp_path)
    snapshot = await journal.latest()
    assert snapshot is not None
    # Behind the rename it is there, whole, whatever was said about it.
    assert snapshot.seq == (4 if point.startswith("before") else 6)
    await journal.close()


async def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "task_scheduler.snapshot-0000000000000000009.tmp"
    left.write_bytes(b"half")

    journal = await opened(tmp_path)

    assert not left.exists()
    assert await journal.latest() is None
    await journal.close()


# The whole service.


@asynccontextmanager
async def keeping(directory: Path, **changed: Any) -> AsyncIterator[Served]:
    async with wire(directory, snapshot_events=20, log_retention_s=1e-3, **changed) as served:
        yield served


async def test_snapshots_are_taken_as_the_log_grows_and_recovery_begins_with_them(
    tmp_path: Path,
) -> None:
    async with keeping(tmp_path) as served:
        async with served.router("work") as router:
            ended = [await served.run(router) for _ in range(5)]
        await eventually(lambda: files(tmp_path))
        waiting = [(await served.submit(spec("later")))[0] for _ in range(3)]
    seq = int(files(tmp_path)[-1].name[-19:])
    # Only the snapshot knows of what is before it.
    with sqlite3.connect(tmp_path / "task_scheduler.db") as database:
        database.execute(
            "UPDATE base SET last_seq = ?, hash = coalesce(?, hash)", (seq, _hash(database, seq))
        )
        database.execute("DELETE FROM groups WHERE last_seq <= ?", (seq,))
    database.close()

    async with keeping(tmp_path) as served:
        for task_id in ended:
            task = await served.get(task_id)
            assert (task.state, task.result.data) == (task_pb2.Task.STATE_COMPLETED, b"ok")
        for task_id in waiting:
            assert (await served.get(task_id)).state == task_pb2.Task.STATE_QUEUED


async def test_a_watch_from_before_what_is_kept_is_told_where_to_begin(tmp_path: Path) -> None:
    async with keeping(tmp_path) as served:
        first = task_scheduler_pb2.SubmitTasksRequest(tasks=[spec()])
        cursor = (await served.stub.SubmitTasks(first)).cursor

        async def grown() -> str:
            await served.submit(*[spec() for _ in range(20)])
            return await _oldest_cursor(served, cursor)

        await eventually(grown, every_s=0.1)

    # Nothing grows here any more, so what is kept stays.
    async with wire(tmp_path) as served:
        oldest = await _oldest_cursor(served, cursor)

        watch = served.stub.WatchEvents(task_scheduler_pb2.WatchEventsRequest(cursor=oldest))
        behind = await watch.read()
        assert behind.events[0].seq == int(oldest[3:]) + 1
        watch.cancel()
        watch = served.stub.WatchEvents(task_scheduler_pb2.WatchEventsRequest())
        assert (await watch.read()).events[0].seq == behind.events[0].seq
        watch.cancel()
        again = await served.stub.SubmitTasks(task_scheduler_pb2.SubmitTasksRequest(tasks=[spec()]))
        assert int(again.cursor[3:]) >= int(oldest[3:])


async def _oldest_cursor(served: Served, cursor: str) -> str:
    """Return where a watch may begin; empty while the log is whole."""
    request = task_scheduler_pb2.WatchTasksRequest(submitter_id="s", cursor=cursor)
    watch = served.stub.WatchTasks(request)
    events = served.stub.WatchEvents(task_scheduler_pb2.WatchEventsRequest(cursor=cursor))
    try:
        await events.read()
    except grpc.aio.AioRpcError as error:
        refused = from_rpc_error(error)
        assert isinstance(refused, OutOfRange)
        assert refused.reason == "CURSOR_COMPACTED"
        assert (await refusal(watch.read())).reason == "CURSOR_COMPACTED"
        return refused.metadata["oldest_cursor"]
    finally:
        watch.cancel()
        events.cancel()
    return ""


def _hash(database: sqlite3.Connection, seq: int) -> bytes:
    row = database.execute("SELECT hash FROM groups WHERE last_seq = ?", (seq,)).fetchone()
    return bytes(row[0])


async def test_every_snapshot_is_what_replaying_the_log_up_to_it_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "KEPT", 1_000)
    async with wire(tmp_path, snapshot_events=10) as served, served.router("work") as router:
        draw = random.Random(7)
        while len([path for path in files(tmp_path) if path.suffix != ".tmp"]) < 4:
            await one_of_everything(served, router, draw)

    whole = snapshots.SnapshotFiles(tmp_path, Failpoints()).whole()
    assert len(whole) >= 4
    for facts, path in whole:
        restored, again = (Scheduler(Limits(), random.Random(1).random) for _ in range(2))
        restoring = Restoring(restored.book, NOW)
        with ThreadPoolExecutor(1) as reader:
            stored = snapshots.SnapshotFiles(tmp_path, Failpoints()).read(facts, path, reader)
            async for part in stored.parts:
                restoring.add(ProtoCodec().unpack(part))
        restoring.finish()
        await replay_through(again, tmp_path, facts.seq)
        assert restored.book.seq == facts.seq
        assert state(SimpleNamespace(core=restored)) == state(SimpleNamespace(core=again))


async def one_of_everything(served: Served, router: Router, draw: random.Random) -> None:
    """Let tasks wait, end, fail, be held and be canceled, of several tenants and under keys."""
    tenant, priority = draw.choice(["red", "blue"]), draw.randrange(10)
    parts = {"tenant": tenant, "priority": priority, "request_id": f"{draw.random():.9f}"}
    first, _, third = await served.submit(
        spec(**parts), spec(concurrency_keys=["gpu"], tenant=tenant), spec("other", tenant=tenant)
    )
    await served.submit(spec("other", tenant=tenant, depends_on=[first], parent_task_id=third))
    for grant in (await router.grant(), await router.grant()):
        end = router.complete if draw.random() < 0.7 else router.fail
        await end(grant, agent_id=f"a{draw.randrange(3)}")
    pause = task_scheduler_pb2.PauseTasksRequest(task_ids=[third])
    await served.stub.PauseTasks(pause)
    if draw.random() < 0.5:
        await served.stub.CancelTasks(task_scheduler_pb2.CancelTasksRequest(task_ids=[third]))


async def replay_through(core: Scheduler, directory: Path, last_seq: int) -> None:
    journal, codec = await opened(directory), ProtoCodec()
    async for groups in journal.replay(0):
        for one in groups:
            for message in event_batch(one.frames):
                event = codec.decode(message)
                if message.seq <= last_seq and event is not None:
                    core.replay(event, NOW)
    await journal.close()


async def test_a_log_that_is_bounded_stays_whole_and_loses_no_task(tmp_path: Path) -> None:
    bound_bytes, payload = 400_000, Payload(data=bytes(10_000))
    limits = {"snapshot_events": 20, "log_bytes_max": bound_bytes}
    waiting: list[str] = []
    async with wire(tmp_path, **limits) as served:
        async with served.router("work") as router:

            async def dropped() -> bool:
                waiting.extend(await served.submit(spec("later")))
                for _ in range(10):
                    await served.run(router, payload=payload)
                checked = await served.stub.VerifyLog(task_scheduler_pb2.VerifyLogRequest())
                return bool(checked.compacted_seq > 100)

            await eventually(dropped, within_s=30)
        checked = await served.stub.VerifyLog(task_scheduler_pb2.VerifyLogRequest())
        assert checked.checked_seq == checked.durable_seq

    with closing(sqlite3.connect(tmp_path / "task_scheduler.db")) as database:
        ranges = database.execute("SELECT first_seq, last_seq FROM groups ORDER BY 1").fetchall()
    assert ranges[0][0] == checked.compacted_seq + 1
    assert all(after[0] == before[1] + 1 for before, after in itertools.pairwise(ranges))

    async with wire(tmp_path, **limits) as served:
        for task_id in waiting:
            assert (await served.get(task_id)).state == task_pb2.Task.STATE_QUEUED
