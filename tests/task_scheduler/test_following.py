from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from podium.v1.task_scheduler_pb2 import WatchEventsResponse
from services.kernel.errors import InvalidArgument, PodiumError, ResourceExhausted
from services.task_scheduler.servicer.following import Merged, positions_of


def message(partition: int, *seqs: int, caught_up: bool = False) -> bytes:
    said = WatchEventsResponse(cursor=f"{partition:02x}-{seqs[-1]}", caught_up=caught_up)
    for seq in seqs:
        said.events.add(seq=seq, partition=partition)
    return said.SerializeToString()


def merged(logs: dict[int, list[Any]]) -> AsyncGenerator[bytes, None]:
    async def open_one(partition: int, cursor: str) -> AsyncGenerator[bytes, None]:
        for each in logs[partition]:
            if isinstance(each, Exception):
                raise each
            yield each
        await asyncio.Event().wait()

    positions = {partition: f"{partition:02x}-0" for partition in logs}
    return Merged(WatchEventsResponse, open_one, positions, whole=True).messages(positions)


async def test_each_message_has_the_cursor_behind_it_in_all_partitions() -> None:
    behind = {0: 0, 1: 0}
    seen = 0
    async for raw in merged({0: [message(0, 1, 2), message(0, 3)], 1: [message(1, 1)]}):
        said = WatchEventsResponse.FromString(raw)
        behind[said.events[0].partition] = said.events[-1].seq
        assert said.cursor == f"00-{behind[0]}.01-{behind[1]}"
        seen += len(said.events)
        if seen == 4:
            break

    assert behind == {0: 3, 1: 1}


async def test_it_has_caught_up_when_all_partitions_have() -> None:
    told = []
    logs = {0: [message(0, 1, caught_up=True)], 1: [message(1, 1), message(1, 2, caught_up=True)]}
    async for raw in merged(logs):
        told.append(WatchEventsResponse.FromString(raw).caught_up)
        if len(told) == 3:
            break

    assert (told.count(True), told[-1]) == (1, True)


async def test_an_error_says_where_to_resume_in_all_partitions() -> None:
    slow = ResourceExhausted("WATCHER_TOO_SLOW", "Resume.", metadata={"cursor": "01-7"})

    with pytest.raises(PodiumError) as refused:
        async for _ in merged({0: [], 1: [slow]}):
            raise AssertionError("there is nothing to tell")
    assert refused.value.metadata["cursor"] == "00-0.01-7"


@pytest.mark.parametrize(
    ("cursor", "positions"),
    [
        ("", {}),
        ("now", {}),
        ("03-17", {3: "03-17"}),
        ("00-5.02-9", {0: "00-5", 2: "02-9"}),
    ],
)
def test_a_cursor_names_the_partitions_that_are_followed(
    cursor: str, positions: dict[int, str]
) -> None:
    assert positions_of(cursor, 4) == positions


@pytest.mark.parametrize("cursor", ["04-1", "00-1.00-2", "00-1.", "00", "x", "00-1.now"])
def test_a_cursor_of_another_log_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        positions_of(cursor, 4)
    assert refused.value.reason == "CURSOR_INVALID"
