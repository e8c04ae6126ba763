"""What every journal owes, run by each of them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from services.kernel.clock import SystemClock
from services.task_scheduler.adapters.database import Database
from services.task_scheduler.adapters.failpoints import Failpoints
from services.task_scheduler.adapters.memory import MemoryJournal
from services.task_scheduler.adapters.postgres import PostgresJournal
from services.task_scheduler.adapters.sqlite import SqliteJournal
from services.task_scheduler.ports import Group, StorageFailed, Store

Make = Callable[[], Awaitable[Store]]


def group(first_seq: int, count: int = 1, text: str = "event") -> Group:
    frames = b"".join(f"{text} {n};".encode() for n in range(first_seq, first_seq + count))
    return Group(first_seq, first_seq + count - 1, frames)


def sqlite(directory: Path, failpoints: str = "", reserve_bytes: int = 4_096) -> SqliteJournal:
    return SqliteJournal(directory, reserve_bytes=reserve_bytes, failpoint=Failpoints(failpoints))


async def replayed(journal: Store, after_seq: int = 0) -> list[Group]:
    found = [one async for groups in journal.replay(after_seq) for one in groups]
    return [one._replace(wall_ms=0) for one in found]


_ports = itertools.count(1)


def in_postgres(
    url: str,
    failpoints: str = "",
    lease_ttl_s: float = 30.0,
    at: str = "",
    password_file: str = "",
    partition: int = 0,
) -> PostgresJournal:
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    address.set_result(at or f"127.0.0.1:{next(_ports)}")
    return PostgresJournal(
        Database(url, password_file=password_file),
        clock=SystemClock(),
        address=address,
        lease_ttl_s=lease_ttl_s,
        partition=partition,
        failpoint=Failpoints(failpoints),
    )


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(request: pytest.FixtureRequest, kind: str) -> str:
    return str(request.getfixturevalue("postgres_url")) if kind == "postgres" else ""


@pytest.fixture
async def make(kind: str, url: str, tmp_path: Path) -> AsyncIterator[Make]:
    """Opens the same log again and again, as restarts do."""
    memory = MemoryJournal()

    async def made() -> Store:
        journal: Store = memory if kind == "memory" else sqlite(tmp_path)
        if url:
            journal = in_postgres(url)
        opened.append(journal)
        await journal.open()
        await journal.own()
        return journal

    opened: list[Store] = []
    yield made
    for journal in opened:
        await journal.close()


async def test_a_new_log_is_empty(make: Make) -> None:
    journal = await make()

    assert await replayed(journal) == []
    assert await journal.read(0, 1_000) == []
    await journal.close()


async def test_what_was_appended_is_there_after_a_restart(make: Make) -> None:
    journal = await make()
    groups = [group(1, 3), group(4), group(5, 2)]
    for one in groups:
        await journal.append(one)
    await journal.close()

    again = await make()
    assert await replayed(again) == groups
    await again.append(group(7))
    await again.close()

    assert (await replayed(await make()))[-1] == group(7)


async def test_reading_begins_behind_an_event_and_gives_whole_groups(make: Make) -> None:
    journal = await make()
    groups = [group(1, 3), group(4), group(5, 2)]
    for one in groups:
        await journal.append(one)

    assert list(await journal.read(0, 10_000)) == groups
    assert list(await journal.read(1, 10_000)) == groups
    assert list(await journal.read(3, 10_000)) == groups[1:]
    assert list(await journal.read(5, 10_000)) == groups[2:]
    assert list(await journal.read(6, 10_000)) == []
    await journal.close()


async def test_a_read_is_bounded_but_never_empty_when_there_is_more(make: Make) -> None:
    journal = await make()
    for seq in range(1, 11):
        await journal.append(group(seq))

    assert list(await journal.read(0, 1)) == [group(1)]
    assert 1 < len(await journal.read(0, 30)) < 10
    await journal.close()


async def test_a_search_finds_the_groups_that_hold_the_text(make: Make) -> None:
    journal = await make()
    for one in (group(1, 2, "a"), group(3, 2, "b"), group(5, 1, "a"), group(6, 1, "a")):
        await journal.append(one)

    assert await found(journal, b"a ", 2, 5) == [group(1, 2, "a"), group(5, 1, "a")]
    assert await found(journal, b"b ", 1, 2) == []
    assert await found(journal, b"a ", 7, 9) == []
    await journal.close()


async def found(journal: Store, needle: bytes, first_seq: int, last_seq: int) -> list[Group]:
    search = journal.search(needle, first_seq, last_seq)
    return [one async for groups in search for one in groups]


async def test_a_long_log_is_searched_part_by_part(
    make: Make, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.task_scheduler.adapters.search.SEARCH_BYTES", 100)
    monkeypatch.setattr("services.task_scheduler.adapters.postgres.SEARCH_BYTES", 100)
    journal = await make()
    for seq in range(1, 101):
        await journal.append(group(seq, 1, "a" if seq % 20 == 0 else "b"))

    parts = [list(groups) async for groups in journal.search(b"a ", 5, 90)]

    assert [one.first_seq for some in parts for one in some] == [20, 40, 60, 80]
    if kind != "memory":
        assert 5 <= len(parts) <= 50
    await journal.close()


async def test_reads_and_appends_may_overlap(make: Make) -> None:
    journal = await make()

    async def write() -> None:
        for seq in range(1, 41):
            await journal.append(group(seq))

    async def follow() -> list[Group]:
        seen: list[Group] = []
        while len(seen) < 40:
            seen += await journal.read(seen[-1].last_seq if seen else 0, 100)
            await asyncio.sleep(0)
        return seen

    _, seen = await asyncio.gather(write(), follow())

    assert [one.first_seq for one in seen] == list(range(1, 41))
    await journal.close()


async def test_there_is_space_at_first(make: Make) -> None:
    journal = await make()

    assert not journal.short_of_space()
    await journal.close()


async def test_a_closed_log_takes_nothing(make: Make) -> None:
    journal = await make()
    await journal.close()

    with pytest.raises((StorageFailed, RuntimeError)):
        await journal.append(group(1))


async def parts(*packed: bytes) -> AsyncIterator[bytes]:
    for one in packed:
        yield one


async def test_at_first_there_is_no_snapshot(make: Make) -> None:
    journal = await make()

    assert await journal.latest() is None
    await journal.close()


async def test_recovery_begins_with_the_newest_snapshot_and_goes_on_behind_it(make: Make) -> None:
    journal = await make()
    groups = [group(1, 3), group(4), group(5, 2)]
    for one in groups[:2]:
        await journal.append(one)
    await journal.keep(3, parts(b"old"))
    await journal.keep(4, parts(b"new", bytes(3_000_000), b"end"))
    await journal.append(groups[2])
    await journal.close()

    again = await make()
    snapshot = await again.latest()
    assert snapshot is not None
    assert snapshot.seq == 4
    assert [part async for part in snapshot.parts] == [b"new", bytes(3_000_000), b"end"]
    assert await replayed(again, after_seq=4) == groups[2:]
    await again.append(group(7))
    assert list(await again.read(0, 10_000)) == [*groups, group(7)]
    await again.close()


async def test_old_groups_go_when_two_snapshots_hold_them(make: Make) -> None:
    journal = await make()
    for seq in range(1, 7):
        await journal.append(group(seq)._replace(wall_ms=seq * 1_000))
    await journal.keep(3, parts(b"three"))
    await journal.compact(9_999, 1 << 40)
    assert journal.compacted_seq == 0
    await journal.keep(5, parts(b"five"))

    await journal.compact(3_000, 1 << 40)
    assert journal.compacted_seq == 2
    # Age would let more go, but the older of both snapshots needs what is behind it.
    await journal.compact(9_999, 1 << 40)
    assert journal.compacted_seq == 3
    assert [one.first_seq for one in await journal.read(3, 10_000)] == [4, 5, 6]
    await journal.close()

    again = await make()
    assert (await again.latest()).seq == 5  # type: ignore[union-attr]  # it is there
    assert [one.first_seq for one in await replayed(again, after_seq=5)] == [6]
    assert again.compacted_seq == 3
    await again.close()


async def test_a_log_that_is_too_large_gives_up_its_oldest_groups(make: Make) -> None:
    journal = await make()
    for seq in range(1, 7):
        await journal.append(Group(seq, seq, bytes(100_000), wall_ms=seq))
    await journal.keep(4, parts(b"four"))
    await journal.keep(6, parts(b"six"))

    await journal.compact(0, 1 << 40)
    assert journal.compacted_seq == 0
    await journal.compact(0, 1)

    assert journal.compacted_seq == 4
    await journal.close()
