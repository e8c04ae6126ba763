"""What only a database that replicas share can get wrong."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from services.kernel.errors import FailedPrecondition
from services.task_scheduler.adapters import database
from services.task_scheduler.adapters.postgres import PostgresJournal
from services.task_scheduler.ports import StorageFailed
from tests.contracts.test_journal import group, in_postgres, parts, replayed
from tests.support.postgres import server
from tests.support.waiting import eventually


@asynccontextmanager
async def opened(
    url: str, failpoints: str = "", ttl_s: float = 30.0, at: str = ""
) -> AsyncIterator[PostgresJournal]:
    journal = in_postgres(url, failpoints, ttl_s, at)
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def test_one_owns_the_log_and_the_other_learns_where_the_owner_is(postgres_url: str) -> None:
    async with opened(postgres_url, at="here:1") as first, opened(postgres_url) as second:
        await first.own()
        waiting = asyncio.create_task(second.own())
        await eventually(lambda: second.owner_address)

        assert second.owner_address == "here:1"
        assert first.owner_address == ""
        assert first.reachable
        assert not waiting.done()
        with pytest.raises(StorageFailed):
            await second.append(group(1))

        # Given back, it passes on at once: nobody waits for the lease to run out.
        await first.append(group(1))
        await first.close()
        async with asyncio.timeout(2.0):
            await waiting
        assert await replayed(second) == [group(1)]
        await second.append(group(2))


async def test_whoever_was_held_up_for_longer_than_its_lease_cannot_write(
    postgres_url: str,
) -> None:
    async with opened(postgres_url, ttl_s=0.3) as first, opened(postgres_url) as second:
        await first.own()
        await first.append(group(1))
        # As if the process had been stopped: nothing is renewed.
        assert first._lease is not None and first._lease._renewing is not None
        first._lease._renewing.cancel()
        await second.own()

        with pytest.raises(StorageFailed, match="another scheduler owns the log"):
            await first.append(group(2))
        with pytest.raises(StorageFailed):
            await first.append(group(2))
        with pytest.raises(StorageFailed):
            await first.keep(1, parts(b"stale"))
        await first.compact(1 << 60, 0)

        assert not first.reachable
        assert await replayed(second) == [group(1)]
        assert await second.latest() is None
        await second.append(group(2, text="mine"))
        assert [one.last_seq for one in await second.read(0, 1_000)] == [1, 2]


async def test_whoever_starts_where_the_owner_listened_need_not_wait_for_its_lease_to_end(
    postgres_url: str,
) -> None:
    async with (
        opened(postgres_url, at="here:1") as first,
        opened(postgres_url, at="here:1") as again,
    ):
        await first.own()
        await first.append(group(1))

        async with asyncio.timeout(5.0):
            await again.own()

        # It is as shut out as any other that was taken over.
        with pytest.raises(StorageFailed):
            await first.append(group(2))
        assert await replayed(again) == [group(1)]


async def test_the_same_port_of_another_machine_is_another_place(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(postgres_url, at="here:1") as first:
        await first.own()
        monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
        async with opened(postgres_url, at="here:1") as other:
            waiting = asyncio.create_task(other.own())
            await eventually(lambda: other.owner_address)

            assert not waiting.done()
            await first.append(group(1))
            waiting.cancel()


async def test_the_one_that_lost_it_is_told(postgres_url: str) -> None:
    async with opened(postgres_url, ttl_s=0.3) as first:
        await first.own()
        lost = asyncio.create_task(first.lost())
        await execute(postgres_url, "UPDATE podium_leases SET owner = 'somebody'")

        async with asyncio.timeout(5.0):
            await lost


async def test_a_commit_waits_for_the_takeover_and_is_refused(postgres_url: str) -> None:
    async with opened(postgres_url) as journal:
        await journal.own()
        other = await asyncpg.connect(postgres_url)
        transaction = other.transaction()
        await transaction.start()
        await other.execute("UPDATE podium_partitions SET epoch = epoch + 1")
        appending = asyncio.create_task(journal.append(group(1)))
        await asyncio.wait([appending], timeout=0.1)
        assert not appending.done()
        await transaction.commit()
        await other.close()

        with pytest.raises(StorageFailed, match="owns the log"):
            await appending


async def cut(url: str) -> None:
    """Breaks all connections of the journal on the server's side."""
    await execute(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'podium' AND datname = current_database()",
    )


@pytest.mark.parametrize("written", [False, True])
async def test_a_commit_in_doubt_is_read_back_and_neither_lost_nor_doubled(
    postgres_url: str, written: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(postgres_url) as journal:
        await journal.own()
        await journal.append(group(1))
        insert, broken = journal._insert, []

        async def breaking(one: object, following: bytes) -> bool:
            if broken:
                return await insert(one, following)
            broken.append(one)
            if written:
                assert await insert(one, following)
            raise ConnectionResetError("in the middle of the commit")

        monkeypatch.setattr(journal, "_insert", breaking)
        assert journal._lease is not None
        epoch = journal._lease.epoch

        await journal.append(group(2))
        await journal.append(group(3))

        assert journal._lease.epoch == epoch + 1
        assert await replayed(journal) == [group(1), group(2), group(3)]


async def test_connections_that_break_are_made_anew(postgres_url: str) -> None:
    async with opened(postgres_url) as journal:
        await journal.own()
        for seq in range(1, 4):
            await journal.append(group(seq))
            await cut(postgres_url)

        assert [one.first_seq for one in await replayed(journal)] == [1, 2, 3]


async def test_a_database_that_forgets_is_refused_in_one_sentence() -> None:
    with server() as started:
        started.stop()
        started.start("-c", "fsync=off")

        journal = in_postgres(started.url)
        with pytest.raises(FailedPrecondition, match=r"fsync = off") as refused:
            await journal.open()
        await journal.close()

    assert refused.value.reason == "JOURNAL_NOT_DURABLE"


async def test_commits_are_synced_whatever_the_database_does_by_default(postgres_url: str) -> None:
    name = postgres_url.rpartition("/")[2]
    await execute(postgres_url, f"ALTER DATABASE {name} SET synchronous_commit = off")

    async with opened(postgres_url) as journal:
        assert await journal._connected.fetchval("SHOW synchronous_commit") == "on"


async def test_the_password_comes_from_a_file_each_time_it_is_needed(tmp_path: Path) -> None:
    password = tmp_path / "password"
    rules = Path(tempfile.mkdtemp()) / "rules"
    with server() as started:
        await execute(started.url, "CREATE ROLE podium LOGIN SUPERUSER PASSWORD 'first'")
        rules.write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        rules.parent.chmod(0o755)
        started.stop()
        started.start("-c", f"hba_file={rules}")
        url = started.url.replace("postgres@", "podium@")

        journal = in_postgres(url, password_file=str(password))
        with pytest.raises(FailedPrecondition, match=str(password)):
            await journal.open()
        password.write_text("first\n")
        await journal.open()
        await journal.own()
        await journal.append(group(1))

        await journal._connected.execute("ALTER ROLE podium PASSWORD 'second'")
        password.write_text("second\n")
        await cut(url.replace("podium@", "podium:second@"))
        await journal.append(group(2))
        assert await replayed(journal) == [group(1), group(2)]
        await journal.close()


async def test_no_database_is_told_in_one_sentence() -> None:
    journal = in_postgres("postgresql://nobody@127.0.0.1:1/none")

    with pytest.raises(FailedPrecondition, match="PODIUM_POSTGRES_URL") as refused:
        await journal.open()

    assert refused.value.reason == "JOURNAL_UNREADABLE"
    await journal.close()


async def test_a_newer_schema_serves_older_replicas_when_it_says_so(postgres_url: str) -> None:
    async with opened(postgres_url):
        await execute(postgres_url, "UPDATE podium_about SET value = '9' WHERE name = 'schema'")
        async with opened(postgres_url) as older:
            await older.own()
            await older.append(group(1))

        await execute(
            postgres_url, "UPDATE podium_about SET value = '9' WHERE name = 'readable_by'"
        )
        journal = in_postgres(postgres_url)
        with pytest.raises(FailedPrecondition, match="newer Podium") as refused:
            await journal.open()
        await journal.close()

    assert refused.value.reason == "JOURNAL_TOO_NEW"


async def test_replicas_that_start_together_make_the_tables_once(postgres_url: str) -> None:
    journals = [in_postgres(postgres_url) for _ in range(4)]
    await asyncio.gather(*(journal.open() for journal in journals))

    assert await journals[0]._connected.fetchval("SELECT count(*) FROM podium_partitions") == 4
    for journal in journals:
        await journal.close()


async def test_the_database_going_away_is_waited_for_and_nothing_is_lost() -> None:
    with server() as started:
        async with opened(started.url) as journal:
            await journal.own()
            await journal.append(group(1))
            started.stop()
            appending = asyncio.create_task(journal.append(group(2)))
            await asyncio.wait([appending], timeout=0.3)
            assert not appending.done()
            started.start()

            await appending
            assert await replayed(journal) == [group(1), group(2)]


async def test_a_full_disk_of_the_database_is_waited_for_and_told(postgres_url: str) -> None:
    async with opened(postgres_url) as journal:
        await journal.own()
        await journal.append(group(1))
        await execute(
            postgres_url,
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE 'no space left on device' USING ERRCODE = 'disk_full'; END $$;"
            "CREATE TRIGGER full_disk BEFORE INSERT ON podium_groups EXECUTE FUNCTION refuse()",
        )
        appending = asyncio.create_task(journal.append(group(2)))
        await eventually(journal.short_of_space)
        assert not appending.done()
        assert await replayed(journal) == [group(1)]

        await execute(postgres_url, "DROP TRIGGER full_disk ON podium_groups")
        await appending

        assert not journal.short_of_space()
        assert await replayed(journal) == [group(1), group(2)]


@pytest.mark.parametrize(
    ("damage", "position"),
    [
        ("UPDATE podium_groups SET frames = '\\x00' WHERE first_seq = 3", 3),
        ("DELETE FROM podium_groups WHERE first_seq = 3", 3),
    ],
)
async def test_a_damaged_log_is_refused_with_the_position(
    postgres_url: str, damage: str, position: int
) -> None:
    async with opened(postgres_url) as journal:
        await journal.own()
        for seq in (1, 3, 5):
            await journal.append(group(seq, 2))
        await execute(postgres_url, damage)

        with pytest.raises(FailedPrecondition, match="damaged") as refused:
            await replayed(journal)

    assert refused.value.metadata["seq"] == str(position)


async def test_the_second_step_is_made_while_a_program_of_the_first_writes(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = in_postgres(postgres_url, at="old:1")
    with monkeypatch.context() as patch:
        # As the program was that knew the first step alone.
        patch.setattr(database, "_MIGRATIONS", database._MIGRATIONS[:1])
        patch.setattr(database, "SCHEMA_VERSION", 1)
        patch.setattr(database, "PARTITIONS_DEFAULT", 1)
        await older.open()
    await older.own()
    written, enough = 0, asyncio.Event()

    async def write() -> None:
        nonlocal written
        while not enough.is_set():
            await older.append(group(written + 1))
            written += 1

    writing = asyncio.create_task(write())
    await eventually(lambda: written >= 20)
    async with opened(postgres_url) as newer, opened(postgres_url) as another:
        during = written
        waiting = asyncio.create_task(newer.own())
        await eventually(lambda: newer.owner_address == "old:1")
        await eventually(lambda: written >= during + 20)
        enough.set()
        await writing
        await older.keep(written, parts(b"state"))
        await older.close()
        await waiting

        assert [one.first_seq for one in await replayed(newer)] == list(range(1, written + 1))
        snapshot = await newer.latest()
        assert snapshot is not None and snapshot.seq == written
        await newer.append(group(written + 1))
        assert not await another.take()
    # And back: the older program owns it again behind both steps.
    with monkeypatch.context() as patch:
        patch.setattr(database, "_MIGRATIONS", database._MIGRATIONS[:1])
        patch.setattr(database, "SCHEMA_VERSION", 1)
        async with opened(postgres_url) as again:
            await again.own()
            assert len(await replayed(again)) == written + 1
            await again.append(group(written + 2))
