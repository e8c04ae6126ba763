"""What a power cut, a full disk and a failing sync leave of the journal."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from services.task_scheduler.adapters.files import sync_directory
from services.task_scheduler.adapters.sqlite import SqliteJournal
from services.task_scheduler.ports import Group, StorageFailed
from tests.contracts.test_journal import group, parts, replayed
from tests.support.disk import Disk


def journal_on(disk: Disk, directory: Path) -> SqliteJournal:
    return SqliteJournal(directory, reserve_bytes=4_096, connect=disk.connect)


async def after_power_cut(disk: Disk, into: Path) -> list[Group]:
    disk.cut_power(into)
    journal = SqliteJournal(into, reserve_bytes=4_096)
    await journal.open()
    found = await replayed(journal)
    await journal.close()
    return found


async def lost(disk: Disk, directory: Path, count: int) -> int:
    """Append groups and cut the power; return how many that were promised are gone."""
    journal = journal_on(disk, directory)
    await journal.open()
    await replayed(journal)
    draw = random.Random(7)
    promised = []
    seq = 1
    for _ in range(count):
        one = group(seq, draw.randint(1, 40), text="x" * draw.randint(1, 400))
        await journal.append(one)
        promised.append(one)
        seq = one.last_seq + 1
    found = await after_power_cut(disk, directory / "after")
    await journal.close()
    assert found == promised[: len(found)], "what is left is not what was written"
    return len(promised) - len(found)


async def test_a_power_cut_takes_nothing_that_was_promised(tmp_path: Path) -> None:
    disk = Disk()

    # So many that the write-ahead log is moved into the file in between.
    assert await lost(disk, tmp_path, 400) == 0
    assert disk.syncs >= 400


async def test_the_power_cut_is_real_without_full_syncs_promises_are_broken(
    tmp_path: Path,
) -> None:
    # The same test with the setting that most advise: if this passed, the one above proved nothing.
    assert await lost(Disk(synchronous="NORMAL"), tmp_path, 100) > 0


async def test_a_power_cut_at_any_moment_leaves_a_whole_prefix(tmp_path: Path) -> None:
    disk = Disk()
    journal = journal_on(disk, tmp_path)
    await journal.open()
    await replayed(journal)
    for seq in range(1, 31):
        await journal.append(group(seq))
        found = await after_power_cut(disk, tmp_path / f"after{seq}")
        assert [one.first_seq for one in found] == list(range(1, seq + 1))
    await journal.close()


async def test_a_sync_that_fails_is_not_repeated_and_nothing_more_is_promised(
    tmp_path: Path,
) -> None:
    disk = Disk()
    journal = journal_on(disk, tmp_path)
    await journal.open()
    await replayed(journal)
    await journal.append(group(1))
    disk.failing_syncs = 1
    syncs = disk.syncs

    with pytest.raises(StorageFailed):
        await journal.append(group(2))
    with pytest.raises(StorageFailed):
        await journal.append(group(2))

    # A second sync may say yes to pages that the first has thrown away: it is not asked.
    assert disk.syncs == syncs
    assert await after_power_cut(disk, tmp_path / "after") == [group(1)]
    await journal.close()


async def test_on_a_full_disk_the_reserve_carries_what_was_promised(tmp_path: Path) -> None:
    disk = Disk()
    journal = journal_on(disk, tmp_path)
    await journal.open()
    await replayed(journal)
    reserve = tmp_path / "task_scheduler.reserve"
    give_up = journal._reserve.give_up

    def freed() -> bool:
        disk.full = False
        return give_up()

    journal._reserve.give_up = freed  # type: ignore[method-assign]  # the disk has room then
    await journal.append(group(1))
    disk.full = True

    await journal.append(group(2))

    assert not reserve.exists()
    assert await after_power_cut(disk, tmp_path / "after") == [group(1), group(2)]
    await journal.close()


async def test_a_disk_without_any_room_ends_the_journal_and_tears_nothing(tmp_path: Path) -> None:
    disk = Disk()
    journal = journal_on(disk, tmp_path)
    await journal.open()
    await replayed(journal)
    await journal.append(group(1))
    disk.full = True

    with pytest.raises(StorageFailed):
        await journal.append(group(2))

    disk.full = False
    assert await after_power_cut(disk, tmp_path / "after") == [group(1)]
    await journal.close()


async def test_a_snapshot_is_synced_before_its_name_and_its_name_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = SqliteJournal(tmp_path, reserve_bytes=4_096)
    await journal.open()
    await replayed(journal)
    await journal.append(group(1))
    done: list[str] = []
    module = "services.task_scheduler.adapters.snapshots"

    def noting(name: str, work: object) -> object:
        def call(*arguments: object) -> object:
            done.append(name)
            return work(*arguments)  # type: ignore[operator]  # a function of os

        return call

    monkeypatch.setattr(f"{module}.os.fsync", noting("sync file", os.fsync))
    monkeypatch.setattr(f"{module}.os.replace", noting("rename", os.replace))
    monkeypatch.setattr(f"{module}.sync_directory", noting("sync directory", sync_directory))

    await journal.keep(1, parts(b"state"))

    assert done[:3] == ["sync file", "rename", "sync directory"]
    await journal.close()
