from __future__ import annotations

import asyncio
import time

from services.kernel.clock import ManualClock, SystemClock


def test_the_system_clock_shows_both_clocks_of_the_machine() -> None:
    before = time.monotonic()
    now = SystemClock().now()

    assert before <= now.mono_s <= time.monotonic()
    assert abs(now.wall_ms - time.time_ns() // 1_000_000) < 5_000


async def test_sleepers_wake_in_order_each_at_its_own_moment() -> None:
    clock = ManualClock()
    start = clock.now()
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.now().mono_s - start.mono_s))

    tasks = [asyncio.create_task(sleeper(*each)) for each in (("late", 5.0), ("early", 2.0))]
    await clock.sleepers(2)
    await clock.advance(4.9)
    assert woken == [("early", 2.0)]

    await clock.advance(0.2)
    assert woken == [("early", 2.0), ("late", 5.0)]
    assert clock.now().wall_ms - start.wall_ms == 5_100
    await asyncio.gather(*tasks)


async def test_a_loop_ticks_as_often_as_the_time_allows() -> None:
    clock = ManualClock()
    ticks = 0

    async def loop() -> None:
        nonlocal ticks
        while True:
            await clock.sleep(1.0)
            ticks += 1

    task = asyncio.create_task(loop())
    await clock.advance(10.5)
    task.cancel()

    assert ticks == 10


async def test_a_cancelled_sleeper_is_not_waited_for() -> None:
    clock = ManualClock()
    task = asyncio.create_task(clock.sleep(1.0))
    await clock.sleepers()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    await clock.advance(2.0)

    assert task.cancelled()


def test_the_wall_clock_may_jump_and_the_monotonic_one_does_not() -> None:
    clock = ManualClock(mono_s=10.0, wall_ms=1_000)
    clock.set_wall(5_000_000)

    assert clock.now() == (10.0, 5_000_000)
