"""Logs that earlier versions wrote, which lack what was added since."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from podium.v1 import event_pb2, task_scheduler_pb2
from podium.v1.task_pb2 import Task
from services.task_scheduler.adapters.chain import NO_HASH, chained
from tests.task_scheduler.serving import Served, spec, wire
from tests.task_scheduler.test_recovery import whole_log
from tests.task_scheduler.test_watch import Watch

TasksRequest = task_scheduler_pb2.WatchTasksRequest


def snapshots(directory: Path) -> list[Path]:
    return list(directory.glob("task_scheduler.snapshot-*[0-9]"))


def rewritten(directory: Path, change: Callable[[event_pb2.Event], None]) -> None:
    """Change the events of a log that is not in use, as if they had been written so."""
    for snapshot in directory.glob("task_scheduler.snapshot-*"):
        snapshot.unlink()
    with closing(sqlite3.connect(directory / "task_scheduler.db")) as database:
        before = NO_HASH
        rows = database.execute("SELECT first_seq, frames FROM groups ORDER BY first_seq")
        for first_seq, frames in rows.fetchall():
            group = task_scheduler_pb2.WatchEventsResponse.FromString(frames)
            for event in group.events:
                change(event)
            told = group.SerializeToString()
            before = chained(before, told)
            database.execute(
                "UPDATE groups SET frames = ?, hash = ? WHERE first_seq = ?",
                (told, before, first_seq),
            )
        database.commit()


def without_submitter(event: event_pb2.Event) -> None:
    assert not event.task_id or event.submitter_id
    event.ClearField("submitter_id")


async def lived(directory: Path) -> tuple[str, str, str]:
    """Fill a log with a task that has completed, one that is dead, and one that waits."""
    async with wire(directory) as served, served.router("work") as router:
        done, dead = [(await served.submit(spec(), submitter_id=name))[0] for name in ("me", "you")]
        await router.complete(await router.grant())
        await router.fail(await router.grant())
        (waiting,) = await served.submit(spec("other"), submitter_id="me")
    rewritten(directory, without_submitter)
    return done, dead, waiting


async def told(served: Served, submitter_id: str, count: int) -> list[tuple[str, int]]:
    watch = Watch(served.stub.WatchTasks(TasksRequest(submitter_id=submitter_id)))
    return [(event.task_id, event.type) for event in await watch.take(count)]


@pytest.mark.parametrize("ended_tasks_max", [100, 0], ids=["in memory", "left memory"])
async def test_events_that_do_not_tell_their_submitter_are_replayed_and_found_by_it(
    tmp_path: Path, ended_tasks_max: int
) -> None:
    done, dead, waiting = await lived(tmp_path)
    kinds = event_pb2.Event.Type

    async with wire(tmp_path, ended_tasks_max=ended_tasks_max, tail_bytes_max=1) as served:
        assert (await served.get(waiting)).state == Task.STATE_QUEUED
        assert (await served.get(dead)).state == Task.STATE_FAILED
        mine = await told(served, "me", 7)
        yours = await told(served, "you", 6)
        # What happens from now on tells it, also of tasks from before.
        await served.stub.CancelTasks(task_scheduler_pb2.CancelTasksRequest(task_ids=[waiting]))
        last = (await whole_log(served))[-1]

    assert [kind for task_id, kind in mine if task_id == done] == [
        *(kinds.TYPE_CREATED, kinds.TYPE_QUEUED, kinds.TYPE_ASSIGNED, kinds.TYPE_STARTED),
        kinds.TYPE_COMPLETED,
    ]
    assert {task_id for task_id, _ in mine} == {done, waiting}
    assert {task_id for task_id, _ in yours} == {dead}
    assert yours[-1] == (dead, kinds.TYPE_FAILED)
    assert (last.task_id, last.submitter_id) == (waiting, "me")


async def test_a_snapshot_of_such_a_log_keeps_the_submitters_of_what_it_holds(
    tmp_path: Path,
) -> None:
    _, dead, waiting = await lived(tmp_path)
    async with wire(tmp_path, snapshot_events=1) as served:
        await served.submit(spec("other"))
        while not snapshots(tmp_path):
            await served.submit(spec("other"))
    async with wire(tmp_path) as served:
        cursor = Watch(served.stub.WatchTasks(TasksRequest(submitter_id="me", cursor="now")))
        ids = [waiting, dead]
        await served.stub.CancelTasks(task_scheduler_pb2.CancelTasksRequest(task_ids=ids))
        (event,) = await cursor.take(1)

    assert (event.task_id, event.submitter_id) == (waiting, "me")
