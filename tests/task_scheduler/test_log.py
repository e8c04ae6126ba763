from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from services.kernel.errors import FailedPrecondition
from services.task_scheduler.adapters import log_command as log
from services.task_scheduler.adapters.sqlite import SqliteJournal
from tests.contracts.test_journal import group, parts, replayed
from tests.support.processes import Processes
from tests.task_scheduler.serving import spec, wire


async def filled(directory: Path, *snapshots: int) -> None:
    journal = SqliteJournal(directory, reserve_bytes=4_096)
    await journal.open()
    for seq in (1, 3, 5, 7):
        await journal.append(group(seq, 2))
    for seq in snapshots:
        await journal.keep(seq, parts(b"state"))
    await journal.close()


def change(directory: Path, statement: str) -> None:
    with sqlite3.connect(directory / "task_scheduler.db") as database:
        database.execute(statement)
    database.close()


def break_at(directory: Path, first_seq: int) -> None:
    change(directory, f"UPDATE groups SET frames = x'00' WHERE first_seq = {first_seq}")


def compact(directory: Path) -> None:
    """Drop the first two events, as a log does that has its snapshots."""
    change(
        directory,
        "UPDATE base SET last_seq = 2, hash = (SELECT hash FROM groups WHERE last_seq = 2)",
    )
    change(directory, "DELETE FROM groups WHERE last_seq = 2")


def held(directory: Path) -> dict[str, object]:
    """Return all that a repair could change."""
    with sqlite3.connect(directory / "task_scheduler.db") as database:
        groups = database.execute("SELECT * FROM groups").fetchall()
        base = database.execute("SELECT * FROM base").fetchall()
    database.close()
    small = {one.name: one.read_bytes() for one in directory.glob("*.s[ny]*")}
    return {"groups": groups, "base": base, **small}


async def recovered(directory: Path) -> list[int]:
    """Return the events that a scheduler would find behind its snapshot."""
    journal = SqliteJournal(directory, reserve_bytes=4_096)
    await journal.open()
    snapshot = await journal.latest()
    found = await replayed(journal, snapshot.seq if snapshot is not None else 0)
    await journal.close()
    return [one.first_seq for one in found]


async def test_a_whole_log_is_told_to_be_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await filled(tmp_path, 4)

    assert log.main(["verify", str(tmp_path)]) == 0
    assert "events 1 to 8 are whole; snapshots at: 4" in capsys.readouterr().out


async def test_damage_is_told_with_its_place_and_nothing_is_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await filled(tmp_path)
    change(tmp_path, "UPDATE groups SET frames = x'00' WHERE first_seq = 5")

    assert log.main(["verify", str(tmp_path)]) == 1
    assert log.main(["repair", str(tmp_path)]) == 1

    told = capsys.readouterr()
    assert "damaged at event 5" in told.err
    assert "Nothing was changed" in told.err
    assert "events 1 to 4 are whole" in told.out


async def test_a_log_that_ends_before_what_was_synced_is_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await filled(tmp_path)
    change(tmp_path, "DELETE FROM groups WHERE first_seq = 7")

    assert log.main(["verify", str(tmp_path)]) == 1
    assert "events up to 8 were synced and are gone" in capsys.readouterr().err


async def test_a_repair_cuts_off_what_cannot_be_trusted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await filled(tmp_path, 2)
    break_at(tmp_path, 7)
    break_at(tmp_path, 3)

    assert log.main(["repair", str(tmp_path), "--yes"]) == 0

    assert capsys.readouterr().out.endswith("\nWhat happened behind event 2 is lost.\n")
    assert log.main(["verify", str(tmp_path)]) == 0
    assert await recovered(tmp_path) == []


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize(
    "at_the_end",
    [
        "UPDATE groups SET frames = x'00' WHERE first_seq = 7",
        "DELETE FROM groups WHERE first_seq = 7",
    ],
    ids=["damaged", "gone"],
)
async def test_between_two_damages_a_repair_keeps_what_a_snapshot_can_be_followed_by(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], compacted: bool, at_the_end: str
) -> None:
    await filled(tmp_path, 2, 4)
    if compacted:
        compact(tmp_path)
    break_at(tmp_path, 3)
    change(tmp_path, at_the_end)
    before = held(tmp_path)

    assert log.main(["repair", str(tmp_path)]) == 1
    assert held(tmp_path) == before
    told = capsys.readouterr().out.splitlines()[-1]
    assert log.main(["repair", str(tmp_path), "--yes"]) == 0

    assert capsys.readouterr().out.splitlines()[-1] == told
    assert told == (
        f"The events from {3 if compacted else 1} to 4 are dropped; a snapshot holds what they "
        "did, so no task is lost by that. What happened behind event 6 is lost."
    )
    assert log.main(["verify", str(tmp_path)]) == 0
    assert await recovered(tmp_path) == [5]


async def test_of_several_snapshots_a_repair_takes_the_one_whose_chain_reaches_furthest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await filled(tmp_path, 2, 6)
    for first_seq in (1, 5, 7):
        break_at(tmp_path, first_seq)

    assert log.main(["repair", str(tmp_path), "--yes"]) == 0

    assert "behind event 6 is lost" in capsys.readouterr().out
    assert log.main(["verify", str(tmp_path)]) == 0
    assert await recovered(tmp_path) == []


async def test_a_group_that_says_it_ends_within_the_next_one_is_cut_off_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await filled(tmp_path, 2)
    change(tmp_path, "UPDATE groups SET last_seq = 99 WHERE first_seq = 5")

    assert log.main(["repair", str(tmp_path), "--yes"]) == 0

    assert "behind event 4 is lost" in capsys.readouterr().out
    assert log.main(["verify", str(tmp_path)]) == 0
    assert await recovered(tmp_path) == [3]


@pytest.mark.parametrize("damaged", [True, False])
async def test_where_nothing_is_left_to_begin_with_a_repair_changes_nothing_and_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damaged: bool
) -> None:
    await filled(tmp_path, 4)
    compact(tmp_path)
    (tmp_path / "task_scheduler.snapshot-0000000000000000004").write_bytes(b"no snapshot")
    if damaged:
        break_at(tmp_path, 5)
    before = held(tmp_path)

    assert log.main(["repair", str(tmp_path), "--yes"]) == 1

    assert "Nothing was changed: restore a backup" in capsys.readouterr().err
    assert held(tmp_path) == before


async def test_a_snapshot_that_does_not_lie_on_what_is_kept_goes_with_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await filled(tmp_path / "other")
    await filled(tmp_path / "log", 2)
    # The same events, told in other words.
    change(tmp_path / "other", "UPDATE groups SET hash = x'11' WHERE last_seq = 4")
    journal = SqliteJournal(tmp_path / "other", reserve_bytes=4_096)
    await journal.open()
    await journal.keep(4, parts(b"state"))
    await journal.close()
    stray = "task_scheduler.snapshot-0000000000000000004"
    (tmp_path / "log" / stray).write_bytes((tmp_path / "other" / stray).read_bytes())
    break_at(tmp_path / "log", 7)

    assert log.main(["repair", str(tmp_path / "log"), "--yes"]) == 0

    assert await recovered(tmp_path / "log") == [3, 5]


async def test_a_repair_loses_no_task_when_a_snapshot_holds_what_was_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await filled(tmp_path, 4, 6)
    change(tmp_path, "UPDATE groups SET frames = x'00' WHERE first_seq = 3")

    assert log.main(["repair", str(tmp_path), "--yes"]) == 0

    assert "no task is lost" in capsys.readouterr().out
    assert log.main(["verify", str(tmp_path)]) == 0
    assert await recovered(tmp_path) == [7]


async def test_a_log_in_use_is_not_repaired(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await filled(tmp_path)
    change(tmp_path, "UPDATE groups SET frames = x'00' WHERE first_seq = 7")
    journal = SqliteJournal(tmp_path, reserve_bytes=4_096)
    await journal.open()

    assert log.main(["repair", str(tmp_path), "--yes"]) == 1
    assert "stop it first" in capsys.readouterr().err
    await journal.close()


async def test_the_events_are_exported_as_lines_of_json(
    tmp_path: Path, processes: Processes
) -> None:
    async with wire(tmp_path) as served:
        task_id = (await served.submit(spec(request_id="q1")))[0]

    process = processes.python("-m", "services.task_scheduler", "log", "export", str(tmp_path))
    assert process.wait() == 0
    events = [json.loads(line) for line in process.output().splitlines()]

    assert [int(event["seq"]) for event in events] == list(range(1, len(events) + 1))
    assert [event["type"] for event in events if event.get("taskId") == task_id] == [
        "TYPE_CREATED",
        "TYPE_QUEUED",
    ]
    created = next(event for event in events if event["type"] == "TYPE_CREATED")
    assert created["created"]["spec"]["requestId"] == "q1"


async def test_a_backup_of_a_log_in_use_holds_what_was_promised_before_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live, copy = tmp_path / "live", tmp_path / "copy"
    async with wire(live, snapshot_events=20, log_retention_s=0.001) as served:
        before: list[str] = []
        while not list(live.glob("*.snapshot-*[0-9]")):
            before += await served.submit(*[spec() for _ in range(10)])
        copying = asyncio.create_task(asyncio.to_thread(log.main, ["backup", str(live), str(copy)]))
        while not copying.done():
            await served.submit(spec("after"))
        assert await copying == 0

    async with wire(copy) as restored:
        for task_id in before:
            assert (await restored.get(task_id)).task_id == task_id
        assert await restored.submit(spec())
    assert log.main(["verify", str(copy)]) == 0


async def test_a_backup_overwrites_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await filled(tmp_path / "live")
    await filled(tmp_path / "copy")

    assert log.main(["backup", str(tmp_path / "live"), str(tmp_path / "copy")]) == 1
    assert "is not empty" in capsys.readouterr().err
    assert await recovered(tmp_path / "copy") == [1, 3, 5, 7]


async def test_a_damaged_log_is_no_backup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await filled(tmp_path / "live")
    change(tmp_path / "live", "UPDATE groups SET frames = x'00' WHERE first_seq = 5")

    assert log.main(["backup", str(tmp_path / "live"), str(tmp_path / "copy")]) == 1
    assert "damaged at event 5" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["verify", "export", "repair", "backup"])
def test_where_there_is_no_log_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    more = [str(tmp_path / "copy")] if command == "backup" else []
    assert log.main([command, str(tmp_path), *more]) == 1
    assert "there is no journal" in capsys.readouterr().err


def flip(data: bytearray) -> None:
    data[len(data) // 2] ^= 0xFF


def cut(data: bytearray) -> None:
    del data[-5_000:]


@pytest.mark.parametrize("damage", [flip, cut])
async def test_damage_to_the_file_itself_is_found_before_anything_is_answered(
    tmp_path: Path, damage: Callable[[bytearray], None]
) -> None:
    journal = SqliteJournal(tmp_path, reserve_bytes=4_096)
    await journal.open()
    for seq in range(1, 200):
        await journal.append(group(seq, text="x" * 200))
    await journal.close()
    path = tmp_path / "task_scheduler.db"
    data = bytearray(path.read_bytes())
    damage(data)
    path.write_bytes(data)

    assert log.main(["verify", str(tmp_path)]) == 1
    with pytest.raises(FailedPrecondition, match=r"damaged|cannot be (opened|read)"):
        await recovered(tmp_path)


async def test_a_flipped_bit_in_what_was_not_yet_moved_into_the_file_is_found(
    tmp_path: Path,
) -> None:
    # SQLite takes it for an end that was never synced, and drops the rest without a word.
    journal = SqliteJournal(tmp_path, reserve_bytes=4_096)
    await journal.open()
    for seq in range(1, 50):
        await journal.append(group(seq, text="x" * 200))
    wal = tmp_path / "task_scheduler.db-wal"
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("db", "db-wal", "synced"):
        there = tmp_path / f"task_scheduler.{name}"
        (copy / there.name).write_bytes(there.read_bytes())
    await journal.close()
    data = bytearray((copy / wal.name).read_bytes())
    flip(data)
    (copy / wal.name).write_bytes(data)

    assert log.main(["verify", str(copy)]) == 1
    with pytest.raises(FailedPrecondition, match="were synced and are gone"):
        await recovered(copy)
