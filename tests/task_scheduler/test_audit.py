from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from podium.v1 import task_scheduler_pb2
from services.kernel.clock import ManualClock
from services.kernel.errors import FailedPrecondition, InvalidArgument
from services.task_scheduler.adapters import verify as verifying
from services.task_scheduler.loops.audit import Audit
from tests.support.waiting import eventually
from tests.task_scheduler.serving import WITHIN_S, Served, refusal, spec, wire

EVERY_S = 3_600.0


class Log:
    """What an audit needs of a committer: a log of ten events, perhaps damaged."""

    def __init__(self, damaged_seq: int = 0) -> None:
        self.durable_seq = 10
        self.checked_seq = 0
        self.damage = ""
        self.damaged_seq = damaged_seq

    async def started(self) -> None:
        return

    async def verify(self, after_seq: int) -> int:
        if after_seq < self.damaged_seq <= after_seq + 4:
            raise FailedPrecondition("JOURNAL_DAMAGED", f"damaged at event {self.damaged_seq}")
        return min(after_seq + 4, self.durable_seq)


def audit(log: Any, clock: ManualClock) -> Audit:
    return Audit(log, clock, EVERY_S)


async def test_the_whole_log_is_read_again_and_again_with_rests() -> None:
    log, clock = Log(), ManualClock()
    auditing = audit(log, clock)
    running = asyncio.create_task(auditing.run())

    for count in (1, 2):
        await clock.advance(EVERY_S)
        for _ in range(3):
            await clock.advance(1.0)
        assert (auditing.checks, log.checked_seq, log.damage) == (count, 10, "")
    running.cancel()


async def test_damage_is_told_and_gone_when_it_is_mended() -> None:
    log, clock = Log(damaged_seq=6), ManualClock()
    auditing = audit(log, clock)

    checking = asyncio.create_task(auditing.check())
    await clock.advance(1.0)
    await checking
    assert (log.damage, log.checked_seq, auditing.checks) == ("damaged at event 6", 4, 0)

    log.damaged_seq = 0
    checking = asyncio.create_task(auditing.check())
    for _ in range(3):
        await clock.advance(1.0)
    await checking
    assert (log.damage, log.checked_seq, auditing.checks) == ("", 10, 1)


async def test_a_running_scheduler_finds_what_the_disk_has_changed_and_goes_on(
    tmp_path: Path,
) -> None:
    async with wire(tmp_path, log_check_s=0.01) as served:
        await served.submit(spec())
        await served.submit(spec())
        with closing(sqlite3.connect(tmp_path / "task_scheduler.db")) as connection:
            connection.execute("UPDATE groups SET frames = zeroblob(9) WHERE first_seq = 2")
            connection.commit()

        async def told() -> str:
            request = task_scheduler_pb2.GetQueueStatsRequest()
            return str((await served.stub.GetQueueStats(request)).log_damage)

        assert "damaged at event 2" in await eventually(told)
        assert await served.submit(spec())


async def test_a_log_is_checked_part_by_part_and_another_cursor_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying, "VERIFY_LEN", 2)
    async with wire(tmp_path) as served:
        for _ in range(4):
            await served.submit(spec())
        seen = [response async for response in verified(served)]

        assert [one.checked_seq for one in seen] == [3, 7, 9]
        assert {one.durable_seq for one in seen} == {9}
        assert [bool(one.next_cursor) for one in seen] == [True, True, False]
        for cursor in ("00-4", "00-99", "elsewhere"):
            request = task_scheduler_pb2.VerifyLogRequest(cursor=cursor)
            error = await refusal(served.stub.VerifyLog(request))
            assert (type(error), error.reason) == (InvalidArgument, "CURSOR_INVALID")


async def verified(served: Served) -> Any:
    request = task_scheduler_pb2.VerifyLogRequest()
    while True:
        response = await served.stub.VerifyLog(request, timeout=WITHIN_S)
        yield response
        if not response.next_cursor:
            return
        request.cursor = response.next_cursor
