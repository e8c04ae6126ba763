"""What only a file can get wrong."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from services.kernel.errors import FailedPrecondition
from services.task_scheduler.adapters.failpoints import Failpoints
from services.task_scheduler.adapters.sqlite import SqliteJournal
from services.task_scheduler.ports import Group, StorageFailed
from tests.contracts.test_journal import group, replayed


def sqlite(directory: Path, failpoints: str = "", reserve_bytes: int = 4_096) -> SqliteJournal:
    return SqliteJournal(directory, reserve_bytes=reserve_bytes, failpoint=Failpoints(failpoints))


async def test_a_second_process_is_refused_in_one_sentence(tmp_path: Path) -> None:
    first, second = sqlite(tmp_path), sqlite(tmp_path)
    await first.open()

    with pytest.raises(
        FailedPrecondition, match=r"another scheduler .* PODIUM_DATA_DIR"
    ) as refused:
        await second.open()

    assert refused.value.reason == "JOURNAL_IN_USE"
    await second.close()
    await first.close()
    third = sqlite(tmp_path)
    await third.open()
    await third.close()


async def test_a_log_of_a_newer_version_is_refused_in_one_sentence(tmp_path: Path) -> None:
    journal = sqlite(tmp_path)
    await journal.open()
    await journal.close()
    with sqlite3.connect(journal.path) as connection:
        connection.execute("UPDATE about SET value = '99' WHERE name = 'schema'")
    connection.close()
    journal = sqlite(tmp_path)

    with pytest.raises(FailedPrecondition, match=r"newer Podium .schema 99") as refused:
        await journal.open()

    assert refused.value.reason == "JOURNAL_TOO_NEW"
    await journal.close()


async def test_something_else_in_its_place_is_refused_in_one_sentence(tmp_path: Path) -> None:
    journal = sqlite(tmp_path)
    journal.path.write_bytes(b"this is no database" * 100)

    with pytest.raises(FailedPrecondition, match="cannot be opened") as refused:
        await journal.open()

    assert refused.value.reason == "JOURNAL_UNREADABLE"
    await journal.close()


@pytest.mark.parametrize(
    ("damage", "position"),
    [
        ("UPDATE groups SET frames = x'00' WHERE first_seq = 3", 3),
        ("DELETE FROM groups WHERE first_seq = 3", 3),
        ("UPDATE groups SET last_seq = 9 WHERE first_seq = 1", 10),
        ("UPDATE groups SET hash = zeroblob(32) WHERE first_seq = 5", 5),
    ],
)
async def test_a_damaged_log_is_refused_with_the_position(
    tmp_path: Path, damage: str, position: int
) -> None:
    journal = sqlite(tmp_path)
    await journal.open()
    for seq in (1, 3, 5):
        await journal.append(group(seq, 2))
    await journal.close()
    with sqlite3.connect(journal.path) as connection:
        connection.execute(damage)
    connection.close()

    journal = sqlite(tmp_path)
    await journal.open()
    with pytest.raises(FailedPrecondition, match="damaged") as refused:
        await replayed(journal)

    assert refused.value.metadata["seq"] == str(position)
    await journal.close()


async def test_every_commit_is_synced(tmp_path: Path) -> None:
    # FULL is what makes WAL sync every commit; NORMAL loses acknowledged events with the power.
    journal = sqlite(tmp_path)
    await journal.open()
    assert journal._writes is not None

    modes = [
        journal._writes.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous")
    ]

    assert modes == ["wal", 2]
    await journal.close()


@pytest.mark.parametrize("point", ["before_append", "after_append", "after_sync"])
async def test_after_a_failure_the_log_promises_nothing_more(tmp_path: Path, point: str) -> None:
    journal = sqlite(tmp_path, f"{point}=error@2")
    await journal.open()
    await journal.append(group(1))

    with pytest.raises(StorageFailed):
        await journal.append(group(2))
    with pytest.raises(StorageFailed):
        await journal.append(group(3))
    await journal.close()

    again = sqlite(tmp_path)
    await again.open()
    # The one in doubt is there or not; what was promised is there.
    expected = [group(1), group(2)] if point == "after_sync" else [group(1)]
    assert await replayed(again) == expected
    await again.close()


async def test_a_full_disk_takes_from_what_was_set_aside(tmp_path: Path) -> None:
    journal = sqlite(tmp_path, "before_append=full@2")
    await journal.open()
    reserve = tmp_path / "task_scheduler.reserve"
    assert reserve.stat().st_size == 4_096
    await journal.append(group(1))

    await journal.append(group(2))

    assert not reserve.exists()
    # There is space again: it is set aside anew and tasks are taken in again.
    assert not journal.short_of_space()
    assert reserve.stat().st_size == 4_096
    assert [one.first_seq for one in await journal.read(0, 1_000)] == [1, 2]
    await journal.close()


async def test_while_the_disk_is_full_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = sqlite(tmp_path, "before_append=full")
    await journal.open()
    await journal.append(group(1))

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", no_space)
    assert journal.short_of_space()
    monkeypatch.undo()
    assert not journal.short_of_space()
    await journal.close()


async def test_a_real_sqlite_full_is_recognised(tmp_path: Path) -> None:
    journal = sqlite(tmp_path)
    await journal.open()
    assert journal._writes is not None
    await journal.append(group(1))
    pages = journal._writes.execute("PRAGMA page_count").fetchone()[0]
    journal._writes.execute(f"PRAGMA max_page_count = {pages}")

    # The reserve is given up, the limit of this test stays: the second try fails for good.
    with pytest.raises(StorageFailed, match="full"):
        await journal.append(Group(2, 2, bytes(100_000)))

    assert not (tmp_path / "task_scheduler.reserve").exists()
    await journal.close()
