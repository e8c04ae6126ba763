"""Snapshots in a database that replicas share: who may drop what, and what damage costs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.kernel.errors import FailedPrecondition
from services.task_scheduler.adapters.database import SQL
from services.task_scheduler.adapters.postgres import PARTS_LEN
from services.task_scheduler.ports import StorageFailed
from tests.contracts.test_journal import group, parts, replayed
from tests.task_scheduler.test_postgres import execute, opened

DAMAGES = [
    "UPDATE podium_snapshot_parts SET packed = 'x' WHERE part = 1 AND seq = 2",
    "DELETE FROM podium_snapshot_parts WHERE part = 1 AND seq = 2",
]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damage_to_the_newest_snapshot_costs_time_and_no_state(
    postgres_url: str, damage: str
) -> None:
    async with opened(postgres_url) as journal:
        await journal.own()
        for seq in (1, 2):
            await journal.append(group(seq))
            await journal.keep(seq, parts(b"state", b"%d" % seq))
        await journal.compact(1 << 60, 0)
        await execute(postgres_url, damage)

    async with opened(postgres_url) as again:
        await again.own()
        older = await again.latest()

        assert older is not None
        assert [part async for part in older.parts] == [b"state", b"1"]
        assert await replayed(again, after_seq=1) == [group(2)]

        # The next one may be of the same event: it takes the place of the damaged one.
        await again.keep(2, parts(b"state", b"2"))
        newest = await again.latest()
        assert newest is not None
        assert [part async for part in newest.parts] == [b"state", b"2"]


async def test_damage_while_a_snapshot_is_read_is_noticed(postgres_url: str) -> None:
    async with opened(postgres_url) as journal:
        await journal.own()
        await journal.append(group(1))
        await journal.keep(1, parts(b"state", b"more"))
        snapshot = await journal.latest()
        await execute(postgres_url, "UPDATE podium_snapshot_parts SET packed = 'x' WHERE part = 1")

        assert snapshot is not None
        with pytest.raises(FailedPrecondition, match="not what was written"):
            [part async for part in snapshot.parts]


async def test_without_a_whole_snapshot_a_log_that_begins_later_is_refused(
    postgres_url: str,
) -> None:
    async with opened(postgres_url) as journal:
        await journal.own()
        for seq in (1, 2):
            await journal.append(group(seq))
            await journal.keep(seq, parts(b"state"))
        await journal.compact(1 << 60, 0)
        await execute(postgres_url, "UPDATE podium_snapshot_parts SET packed = 'x'")

        assert await journal.latest() is None
        with pytest.raises(FailedPrecondition, match="no snapshot holds the first events"):
            await replayed(journal)


async def test_a_snapshot_whose_parts_are_gone_before_it_is_whole_never_is(
    postgres_url: str,
) -> None:
    async with opened(postgres_url) as journal:
        await journal.own()
        await journal.append(group(1))

        async def robbed() -> AsyncIterator[bytes]:
            for _ in range(PARTS_LEN):
                yield b"part"
            await execute(postgres_url, "DELETE FROM podium_snapshot_parts")
            yield b"end"

        with pytest.raises(StorageFailed, match="parts of it are gone"):
            await journal.keep(1, robbed())
        assert await journal.latest() is None


async def test_whoever_was_taken_over_drops_nothing_of_the_new_owner_s_snapshots(
    postgres_url: str,
) -> None:
    async with opened(postgres_url, at="a:1") as first, opened(postgres_url, at="a:1") as second:
        await first.own()
        for seq in (1, 2, 3):
            await first.append(group(seq))
        await first.keep(1, parts(b"one"))
        assert first._lease is not None
        stale = (first._partition, first._lease.epoch)
        await second.own()
        await replayed(second)
        await second.append(group(4))

        async def interrupted() -> AsyncIterator[bytes]:
            for _ in range(PARTS_LEN):
                yield b"part"
            # It has not heard of its loss when its own snapshot is due, or is just whole.
            with pytest.raises(StorageFailed):
                await first.keep(3, parts(b"stale"))
            await first._connected.execute(SQL["drop_snapshots"], *stale, 0)
            await first._connected.execute(SQL["drop_parts"], *stale)
            yield b"end"

        await second.keep(4, interrupted())

    async with opened(postgres_url) as third:
        await third.own()
        snapshot = await third.latest()
        assert snapshot is not None
        assert [part async for part in snapshot.parts] == [b"part"] * PARTS_LEN + [b"end"]
        assert await third._connected.fetchval("SELECT count(*) FROM podium_snapshots") == 2
