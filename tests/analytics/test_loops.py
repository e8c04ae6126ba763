from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.analytics.core.windows import Fact, Kind, View, Windows
from services.analytics.loops import Growth
from services.kernel.clock import ManualClock
from tests.support.eventlog import BEGIN_MS

LENGTH_MS = 10_000


class World:
    """Windows under a clock that stands at the beginning of one."""

    def __init__(self) -> None:
        self.clock = ManualClock(wall_ms=BEGIN_MS)
        self.windows = Windows()
        self.complete = True
        self.growth = Growth(lambda: self.windows, lambda: self.complete, self.clock)

    def happen(self, at_s: float) -> None:
        self.windows.count(Fact(Kind.SUBMITTED, BEGIN_MS + round(at_s * 1_000), "words", ""))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    task = asyncio.create_task(world.growth.run())
    await world.clock.sleepers()
    yield world
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def told(views: list[View]) -> list[tuple[float, bool, int]]:
    return [((v.start_ms - BEGIN_MS) / 1e3, v.closed, v.total.counts[0]) for v in views]


async def test_the_clock_closes_windows_two_seconds_after_their_end(world: World) -> None:
    world.happen(1.0)

    await world.clock.advance(11.9)
    assert told(world.growth.newest(LENGTH_MS, 5)) == [(0.0, False, 1), (10.0, False, 0)]
    await world.clock.advance(1.0)
    assert told(world.growth.newest(LENGTH_MS, 5)) == [(0.0, True, 1), (10.0, False, 0)]


async def test_the_clock_closes_nothing_while_the_log_is_still_being_read(world: World) -> None:
    world.complete = False
    world.happen(1.0)
    await world.clock.advance(3_600.0)

    world.happen(2.0)

    assert told(world.growth.newest(LENGTH_MS, 5)) == [(0.0, False, 2)]


async def test_a_watcher_sees_windows_grow_close_and_follow_each_other(world: World) -> None:
    world.happen(1.0)
    updates = world.growth.updates(LENGTH_MS, 10, 1.0)
    assert told(await anext(updates)) == [(0.0, False, 1)]

    async def following(seconds: float) -> list[tuple[float, bool, int]]:
        following = asyncio.ensure_future(anext(updates))
        await world.clock.advance(seconds)
        return told(await asyncio.wait_for(following, 5))

    world.happen(2.0)
    assert await following(1.0) == [(0.0, False, 2)]
    assert await following(9.5) == [(0.0, False, 2), (10.0, False, 0)]
    assert await following(3.0) == [(0.0, True, 2), (10.0, False, 0)]
    world.happen(15.0)
    assert await following(1.0) == [(10.0, False, 1)]


async def test_a_watcher_hears_nothing_while_nothing_changes(world: World) -> None:
    world.happen(1.0)
    updates = world.growth.updates(LENGTH_MS, 10, 1.0)
    await anext(updates)

    waiting = asyncio.ensure_future(anext(updates))
    await world.clock.advance(5.0)
    assert not waiting.done()
    world.happen(5.0)
    await world.clock.advance(1.0)
    assert told(await asyncio.wait_for(waiting, 5)) == [(0.0, False, 2)]


async def test_a_watcher_of_an_empty_log_hears_of_the_first_window(world: World) -> None:
    updates = world.growth.updates(LENGTH_MS, 10, 1.0)
    waiting = asyncio.ensure_future(anext(updates))
    await world.clock.advance(3.0)
    world.happen(3.0)
    await world.clock.advance(1.0)

    assert told(await asyncio.wait_for(waiting, 5)) == [(0.0, False, 1)]


async def test_watchers_are_let_go_when_the_service_stops(world: World) -> None:
    world.happen(1.0)
    updates = world.growth.updates(LENGTH_MS, 10, 1.0)
    await anext(updates)

    await world.growth.drain()
    ending = asyncio.ensure_future(anext(updates, None))
    await world.clock.advance(1.0)

    assert await asyncio.wait_for(ending, 5) is None
