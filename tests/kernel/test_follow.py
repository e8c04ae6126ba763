from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
import grpc.aio
import pytest

from services.kernel.clock import ManualClock
from services.kernel.errors import InvalidArgument, OutOfRange, PodiumError, Unavailable
from services.kernel.follow import Follower, backoff_s_max, backoff_s_min
from services.kernel.rpc import details_key, to_status
from tests.support.waiting import eventually


@dataclass
class Batch:
    cursor: str
    caught_up: bool = False


class Source:
    """Plays one script per opening: batches, then the end, an error or silence."""

    def __init__(self, *scripts: list[Batch | Exception | None]) -> None:
        self.scripts = list(scripts)
        self.cursors: list[str] = []

    async def open(self, cursor: str) -> AsyncIterator[Batch]:
        self.cursors.append(cursor)
        for step in self.scripts.pop(0) if self.scripts else [None]:
            if step is None:
                await asyncio.Event().wait()
            elif isinstance(step, Exception):
                raise step
            else:
                yield step


async def followed(source: Source, clock: ManualClock, rounds: int) -> Follower[Batch]:
    follower = Follower("The log", source.open, lambda _: None, lambda: None, clock=clock)
    task = asyncio.create_task(follower.run())
    # Back-offs are random, so time goes on in small steps.
    while len(source.cursors) <= rounds:
        await clock.advance(backoff_s_min / 2)
    await clock.advance(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return follower


async def test_it_resumes_after_the_last_batch_when_the_stream_ends() -> None:
    source = Source([Batch("1"), Batch("2", caught_up=True)], [Batch("3")])

    follower = await followed(source, ManualClock(), 2)

    assert source.cursors == ["", "2", "3"]
    assert follower.cursor == "3"


async def test_having_caught_up_is_remembered_and_being_at_the_end_is_not() -> None:
    source = Source([Batch("1", caught_up=True)], [Batch("2"), None])

    follower = await followed(source, ManualClock(), 1)

    assert follower.cursor == "2"
    assert follower.caught_up
    assert not follower.at_end
    assert follower.connected and not follower.trouble


async def test_it_says_what_is_wrong_until_it_is_heard_again() -> None:
    follower = await followed(Source([Batch("1")], [None]), ManualClock(), 1)

    assert not follower.connected
    assert follower.trouble == "The log cannot be followed: it ended the stream"


async def test_what_the_taker_raises_ends_the_follower() -> None:
    def take(batch: Batch) -> None:
        raise AssertionError("a bug")

    follower = Follower(
        "The log", Source([Batch("1")]).open, take, lambda: None, clock=ManualClock()
    )
    with pytest.raises(AssertionError, match="a bug"):
        await follower.run()
    assert follower.cursor == ""


@pytest.mark.parametrize(
    ("refusal", "begun"),
    [
        (OutOfRange("CURSOR_COMPACTED", "The cursor lies before what is kept."), 0),
        (InvalidArgument("CURSOR_INVALID", "The cursor is not of this log."), 1),
    ],
    ids=["compacted", "another log"],
)
async def test_a_position_that_is_gone_leads_back_to_the_start(
    refusal: PodiumError, begun: int
) -> None:
    source = Source([Batch("7"), on_the_wire(refusal)], [Batch("1"), None])
    begins: list[str] = []
    clock = ManualClock()
    follower = Follower(
        "The log", source.open, lambda _: None, lambda: begins.append("anew"), clock=clock
    )
    task = asyncio.create_task(follower.run())
    await clock.sleepers()
    await clock.advance(backoff_s_max)
    await eventually(lambda: follower.cursor == "1")
    task.cancel()

    assert source.cursors == ["", ""]
    assert len(begins) == begun


async def test_any_other_refusal_keeps_the_position() -> None:
    unreachable = Unavailable("DRAINING", "The scheduler is stopping.")

    source = Source([Batch("7"), on_the_wire(unreachable)], [on_the_wire(unreachable)])
    await followed(source, ManualClock(), 2)

    assert source.cursors == ["", "7", "7"]


def on_the_wire(error: PodiumError) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        grpc.StatusCode[error.code],
        grpc.aio.Metadata(),
        grpc.aio.Metadata((details_key, to_status(error).SerializeToString())),
        details=error.message,
    )
