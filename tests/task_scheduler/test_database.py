from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from services.kernel.errors import FailedPrecondition
from services.task_scheduler.__main__ import check_shared_keys, limits_of
from services.task_scheduler.adapters.database import SQL, Database
from services.task_scheduler.adapters.statements import migrations
from services.task_scheduler.config import Numbers, Rates
from services.task_scheduler.core.limits import Rate
from services.task_scheduler.ports import LogLost
from tests.contracts.test_journal import group, in_postgres, replayed
from tests.task_scheduler.serving import settings, spec, wire


async def opened(url: str, partitions: int = 0) -> Database:
    database = Database(url, partitions=partitions)
    await database.open()
    return database


async def test_a_new_database_has_as_many_partitions_as_asked_for_and_keeps_them(
    postgres_url: str,
) -> None:
    first = await opened(postgres_url, 6)
    second = await opened(postgres_url)

    assert (first.partitions, second.partitions) == (6, 6)
    assert first.page_key == second.page_key != b""
    with pytest.raises(FailedPrecondition, match="PODIUM_PARTITIONS") as refused:
        await opened(postgres_url, 3)
    assert refused.value.reason == "PARTITIONS_MISMATCH"
    assert refused.value.metadata == {"partitions": "6", "wanted": "3"}
    await first.close()
    await second.close()


async def test_a_database_of_one_partition_goes_on_with_it(postgres_url: str) -> None:
    # As the version before made it, with what it wrote.
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(migrations("postgres")[0].text)
    await connection.execute(SQL["set_schema"], "1", "1")
    await connection.execute(SQL["add_partition"], 0)
    await connection.execute(SQL["add_lease"], 0)
    await connection.close()

    database = await opened(postgres_url)
    assert database.partitions == 1
    schema = await database.connected.fetchrow(SQL["schema"])
    # The replicas that are not replaced yet may start again.
    assert tuple(schema) == (len(migrations("postgres")), 1)
    await database.close()


async def test_a_version_that_knows_one_partition_refuses_a_database_of_several(
    postgres_url: str,
) -> None:
    database = await opened(postgres_url, 2)

    _, readable_by = await database.connected.fetchrow(SQL["schema"])
    assert readable_by == 2, "it would put every task into the first"
    await database.close()


async def test_partitions_have_owners_and_fences_of_their_own(postgres_url: str) -> None:
    first = [in_postgres(postgres_url, lease_ttl_s=0.3, partition=n) for n in range(2)]
    for journal in first:
        await journal.open()
        await journal.own()
        await journal.append(group(1))
    taker = in_postgres(postgres_url, partition=1)
    await taker.open()
    # Nobody renews it any more, as when a process is held up.
    assert first[1]._lease is not None
    first[1]._lease._renewing.cancel()  # type: ignore[union-attr]  # it is owned
    await taker.own()

    with pytest.raises(LogLost):
        await first[1].append(group(2))
    await first[0].append(group(2))
    await taker.replay(0).__anext__()
    assert await replayed(taker) == [group(1)]
    assert await replayed(first[0]) == [group(1), group(2)]
    for journal in (*first, taker):
        await journal.close()


async def test_a_limit_that_all_tenants_share_needs_one_partition(
    postgres_url: str, tmp_path: Path
) -> None:
    shared = Numbers({"gpu": 1.0}.items())
    for partitions, refusal in ((2, "SHARED_KEYS_SPLIT"), (2, ""), (1, "PARTITIONS_MISMATCH")):
        asked = {"journal": "postgres", "postgres_url": postgres_url, "partitions": partitions}
        keys = shared if refusal == "SHARED_KEYS_SPLIT" else Numbers()
        start = wire(tmp_path, **asked, shared_concurrency_limits=keys, port=0)
        if not refusal:
            async with start as served:
                assert (await served.submit(spec()))[0].startswith("00-")
            continue
        with pytest.raises(FailedPrecondition) as refused:
            await start.__aenter__()
        assert refused.value.reason == refusal


def test_limits_of_a_process_hold_when_it_owns_all_partitions(tmp_path: Path) -> None:
    whole, part = limits_of(settings(tmp_path)), limits_of(settings(tmp_path), 4)

    assert part.open_tasks_max * 4 == whole.open_tasks_max
    assert part.ended_bytes_max * 4 == whole.ended_bytes_max


def test_a_rate_that_all_tenants_share_needs_one_partition_too(tmp_path: Path) -> None:
    chosen = settings(tmp_path, shared_rate_limits=Rates([("api", Rate(1, 1_000))]))
    check_shared_keys(chosen, 1)

    with pytest.raises(FailedPrecondition, match="PODIUM_SHARED_RATE_LIMITS") as refused:
        check_shared_keys(chosen, 2)

    assert "PODIUM_RATE_LIMITS" in refused.value.message
