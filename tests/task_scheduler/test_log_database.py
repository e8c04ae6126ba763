"""The log command on a real PostgreSQL, whose partitions have a log each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from services.task_scheduler.adapters import log_command
from services.task_scheduler.adapters.database import Database
from tests.contracts.test_journal import group, in_postgres, parts, replayed
from tests.support.postgres import Postgres
from tests.support.processes import Processes
from tests.task_scheduler.serving import spec, wire

Said = pytest.CaptureFixture[str]
COMPACT = (
    "UPDATE podium_partitions SET compacted_seq = 2, compacted_hash = (SELECT hash FROM "
    "podium_groups WHERE partition = 1 AND last_seq = 2) WHERE partition = 1; "
    "DELETE FROM podium_groups WHERE partition = 1 AND last_seq = 2; "
)


@pytest.fixture
def other_url(postgres_server: Postgres) -> Iterator[str]:
    with postgres_server.database() as url:
        yield url


async def run(*arguments: str) -> int:
    return await asyncio.to_thread(log_command.main, arguments)


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


async def filled(url: str, *snapshots: int, partition: int = 1) -> None:
    """Write events 1 to 8 to one of two partitions, and two events to the other."""
    database = Database(url, partitions=2)
    await database.open()
    await database.close()
    for number in range(2):
        journal = in_postgres(url, partition=number)
        await journal.open()
        await journal.own()
        for seq in (1, 3, 5, 7) if number == partition else (1,):
            await journal.append(group(seq, 2))
        for seq in snapshots if number == partition else ():
            await journal.keep(seq, parts(b"state"))
        await journal.close()


async def break_at(url: str, first_seq: int, partition: int = 1) -> None:
    change = f"UPDATE podium_groups SET frames = '\\x00' WHERE partition = {partition}"
    await execute(url, f"{change} AND first_seq = {first_seq}")


async def recovered(url: str, partition: int = 1) -> list[int]:
    """Return the events that a scheduler would find behind its snapshot."""
    journal = in_postgres(url, partition=partition)
    await journal.open()
    await journal.own()
    snapshot = await journal.latest()
    found = await replayed(journal, snapshot.seq if snapshot is not None else 0)
    await journal.close()
    return [one.first_seq for one in found]


async def test_each_partition_is_told_with_what_is_whole_of_it(
    postgres_url: str, capsys: Said
) -> None:
    await filled(postgres_url, 4)

    assert await run("verify", postgres_url) == 0
    assert capsys.readouterr().out.splitlines() == [
        "partition 0: events 1 to 2 are whole; snapshots at: none",
        "partition 1: events 1 to 8 are whole; snapshots at: 4",
    ]


async def test_damage_is_told_with_its_partition_and_nothing_is_changed(
    postgres_url: str, capsys: Said
) -> None:
    await filled(postgres_url)
    await break_at(postgres_url, 1, partition=0)
    await break_at(postgres_url, 5)

    assert await run("verify", postgres_url) == 1
    assert await run("repair", postgres_url) == 1

    told = capsys.readouterr()
    assert "of partition 0 in PostgreSQL is damaged at event 1" in told.err
    assert "of partition 1 in PostgreSQL is damaged at event 5" in told.err
    assert "Nothing was changed" in told.err
    assert told.out.count("partition 1: events 1 to 4 are whole") == 2


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("DELETE FROM podium_groups WHERE first_seq = 7", "events that the snapshot at 8 holds"),
        (
            COMPACT + "UPDATE podium_snapshot_parts SET packed = '\\x00'",
            "no whole snapshot holds its first events",
        ),
    ],
)
async def test_a_log_and_snapshots_that_do_not_meet_are_damaged(
    postgres_url: str, capsys: Said, statement: str, told: str
) -> None:
    await filled(postgres_url, 8)
    await execute(postgres_url, statement)

    assert await run("verify", postgres_url) == 1
    assert told in capsys.readouterr().err


async def test_a_repair_cuts_off_what_cannot_be_trusted_and_spares_the_others(
    postgres_url: str, capsys: Said
) -> None:
    await filled(postgres_url, 2)
    await break_at(postgres_url, 7)
    await break_at(postgres_url, 3)

    assert await run("repair", postgres_url, "--yes") == 0

    assert "behind event 2 of partition 1 is lost" in capsys.readouterr().out
    assert await run("verify", postgres_url) == 0
    assert (await recovered(postgres_url), await recovered(postgres_url, 0)) == ([], [1])


@pytest.mark.parametrize("compacted", [False, True])
async def test_between_two_damages_a_repair_keeps_what_a_snapshot_can_be_followed_by(
    postgres_url: str, capsys: Said, compacted: bool
) -> None:
    await filled(postgres_url, 2, 4)
    if compacted:
        await execute(postgres_url, COMPACT)
    await break_at(postgres_url, 3)
    await break_at(postgres_url, 7)

    assert await run("repair", postgres_url) == 1
    told = capsys.readouterr().out.splitlines()[-1]
    assert await run("repair", postgres_url, "--yes") == 0

    assert capsys.readouterr().out.splitlines()[-1] == told
    assert told == (
        f"The events from {3 if compacted else 1} to 4 of partition 1 are dropped; a snapshot "
        "holds what they did, so no task is lost by that. What happened behind event 6 of "
        "partition 1 is lost."
    )
    assert await run("verify", postgres_url) == 0
    assert await recovered(postgres_url) == [5]


async def test_a_group_that_says_it_ends_within_the_next_one_is_cut_off_too(
    postgres_url: str, capsys: Said
) -> None:
    await filled(postgres_url, 2)
    await execute(postgres_url, "UPDATE podium_groups SET last_seq = 99 WHERE first_seq = 5")

    assert await run("repair", postgres_url, "--yes") == 0

    assert "behind event 4 of partition 1 is lost" in capsys.readouterr().out
    assert await run("verify", postgres_url) == 0
    assert await recovered(postgres_url) == [3]


async def test_a_partition_that_cannot_be_mended_is_told_and_the_others_are_mended(
    postgres_url: str, capsys: Said
) -> None:
    await filled(postgres_url)
    dropped = "UPDATE podium_partitions SET compacted_seq = 1 WHERE partition = 0"
    await execute(postgres_url, dropped)
    await break_at(postgres_url, 7)

    assert await run("repair", postgres_url, "--yes") == 1

    told = capsys.readouterr()
    assert "partition 0: the journal of partition 0 in PostgreSQL cannot be mended" in told.err
    assert "Nothing was changed: restore a backup" in told.err
    assert "behind event 6 of partition 1 is lost" in told.out
    assert await recovered(postgres_url) == [1, 3, 5]
    assert await run("verify", postgres_url) == 1
    told = capsys.readouterr()
    assert "of partition 0" in told.err and "of partition 1" not in told.err


async def test_a_repair_loses_no_task_when_a_snapshot_holds_what_was_damaged(
    postgres_url: str, capsys: Said
) -> None:
    await filled(postgres_url, 4, 6)
    await break_at(postgres_url, 3)

    assert await run("repair", postgres_url, "--yes") == 0

    assert "no task is lost" in capsys.readouterr().out
    assert await run("verify", postgres_url) == 0
    assert await recovered(postgres_url) == [7]


async def test_a_partition_that_is_owned_is_not_repaired_and_its_owner_goes_on(
    postgres_url: str, capsys: Said
) -> None:
    await filled(postgres_url)
    await break_at(postgres_url, 7)
    journal = in_postgres(postgres_url, partition=1)
    await journal.open()
    await journal.own()

    assert await run("repair", postgres_url, "--yes") == 1

    assert "stop all of them first" in capsys.readouterr().err
    await journal.append(group(9))
    await journal.close()


async def test_who_comes_back_behind_a_repair_writes_no_more(postgres_url: str) -> None:
    await filled(postgres_url)
    await break_at(postgres_url, 7)
    held_up = in_postgres(postgres_url, partition=1)
    await held_up.open()
    await held_up.own()
    # As one that was stopped for longer than its lease.
    await execute(postgres_url, "UPDATE podium_leases SET expires_at = '-infinity'")

    assert await run("repair", postgres_url, "--yes") == 0

    with pytest.raises(Exception, match="another scheduler owns the log"):
        await held_up.append(group(9))
    await held_up.close()


async def test_the_events_of_all_partitions_are_exported_as_lines_of_json(
    postgres_url: str, tmp_path: Path, processes: Processes
) -> None:
    async with wire(tmp_path, journal="postgres", postgres_url=postgres_url, port=0) as served:
        ids = [
            (await served.submit(spec(tenant=tenant)))[0] for tenant in ("default", "red", "blue")
        ]
    assert len({task_id[:2] for task_id in ids}) > 1
    process = processes.python("-m", "services.task_scheduler", "log", "export", postgres_url)
    assert process.wait() == 0
    events = [json.loads(line) for line in process.output().splitlines()]

    for number in range(4):
        seqs = [int(one["seq"]) for one in events if one.get("partition", 0) == number]
        assert seqs == list(range(1, len(seqs) + 1))
    kinds = [one["type"] for one in events if one.get("taskId") == ids[1]]
    assert kinds == ["TYPE_CREATED", "TYPE_QUEUED"]
    other = int(ids[1][:2], 16)
    process = processes.python(
        *("-m", "services.task_scheduler", "log", "export", postgres_url),
        *("--partition", str(other)),
    )
    assert process.wait() == 0
    assert {json.loads(line).get("partition", 0) for line in process.output().splitlines()} == {
        other
    }


async def test_a_backup_of_logs_in_use_holds_what_was_promised_before_it(
    postgres_url: str, other_url: str, tmp_path: Path, capsys: Said
) -> None:
    shared = {"journal": "postgres", "port": 0, "snapshot_events": 20, "log_retention_s": 0.001}
    async with wire(tmp_path, postgres_url=postgres_url, **shared) as served:
        before: list[str] = []
        for tenant in ("default", "red") * 4:
            before += await served.submit(*[spec(tenant=tenant) for _ in range(10)])
        copying = asyncio.create_task(run("backup", postgres_url, other_url))
        while not copying.done():
            await served.submit(spec("after"))
        assert await copying == 0
    assert capsys.readouterr().out.count("of the copy holds all up to event") == 4

    async with wire(tmp_path, postgres_url=other_url, **shared) as restored:
        for task_id in before:
            assert (await restored.get(task_id)).task_id == task_id
        assert await restored.submit(spec())
    assert await run("verify", other_url) == 0


async def test_a_backup_overwrites_nothing_and_copies_no_damage(
    postgres_url: str, other_url: str, capsys: Said
) -> None:
    await filled(postgres_url)
    await break_at(postgres_url, 5)

    assert await run("backup", postgres_url, other_url) == 1
    assert "damaged at event 5" in capsys.readouterr().err
    # Nothing of it is there.
    assert await run("verify", other_url) == 1
    assert "there is no journal" in capsys.readouterr().err
    await filled(other_url)
    assert await run("backup", postgres_url, other_url) == 1
    assert "has a journal" in capsys.readouterr().err


async def test_what_cannot_be_read_is_said_in_a_sentence(
    postgres_url: str, tmp_path: Path, capsys: Said
) -> None:
    await filled(postgres_url)
    await execute(postgres_url, "UPDATE podium_about SET value = '99' WHERE name = 'schema'")
    nowhere = "postgresql://podium@127.0.0.1:1/podium"
    for arguments, told in (
        (["verify", postgres_url], "written by a newer Podium"),
        (["verify", nowhere], "cannot be reached"),
        (["export", nowhere], "cannot be reached"),
        (["repair", nowhere], "cannot be reached"),
        (["backup", nowhere, nowhere], "cannot be reached"),
        (["backup", nowhere, str(tmp_path)], "pg_dump"),
    ):
        assert await run(*arguments) == 1
        assert told in capsys.readouterr().err
