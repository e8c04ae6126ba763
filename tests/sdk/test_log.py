from __future__ import annotations

from pathlib import Path

import pytest

from podium.sdk.client import Client
from podium.sdk.errors import InvalidArgument
from tests.sdk.fakes import settings
from tests.task_scheduler.serving import wire


async def test_the_log_is_read_to_its_end_and_checked(tmp_path: Path) -> None:
    async with (
        wire(tmp_path) as served,
        Client(settings(task_scheduler=served.address), inline=True) as client,
    ):
        for number in range(3):
            await client.submit("a.b", f"text {number}")

        events = [event async for event in client.log.events()]
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        texts = [e.created.spec.payload.data for e in events if e.HasField("created")]
        assert texts == [b"text 0", b"text 1", b"text 2"]

        behind = [event.seq async for event in client.log.events(f"00-{len(events) - 2}")]
        assert behind == [len(events) - 1, len(events)]
        with pytest.raises(InvalidArgument, match="not from this log"):
            _ = [event async for event in client.log.events("99-1")]

        checked = [each async for each in client.log.verify()]
        assert checked[-1].checked_seq == checked[-1].durable_seq == len(events)


async def test_reading_behind_the_last_event_ends_too(tmp_path: Path) -> None:
    async with (
        wire(tmp_path) as served,
        Client(settings(task_scheduler=served.address), inline=True) as client,
    ):
        assert [event.seq async for event in client.log.events("00-1")] == []
        assert [event.seq async for event in client.log.events("now")] == []
