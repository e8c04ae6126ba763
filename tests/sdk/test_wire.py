from __future__ import annotations

import asyncio
import threading

from podium.sdk import wire
from tests.support.waiting import eventually


async def test_one_thread_serves_all_who_want_it_and_ends_with_the_last() -> None:
    first, second = wire.acquire(), wire.acquire()

    async def where() -> str:
        return threading.current_thread().name

    assert first.loop is second.loop
    assert await first.run(where()) == "podium-wire"
    await wire.release(first)
    assert await second.run(where()) == "podium-wire"
    await wire.release(second)
    assert "podium-wire" not in [thread.name for thread in threading.enumerate()]


async def test_inline_work_stays_on_the_callers_loop() -> None:
    own = wire.acquire(inline=True)

    async def where() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert await own.run(where()) is asyncio.get_running_loop()
    await wire.release(own)


async def test_cancelling_the_caller_cancels_the_work_on_the_other_loop() -> None:
    shared = wire.acquire()
    seen = []

    async def work() -> None:
        seen.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("ended")

    task = asyncio.create_task(shared.run(work()))
    await eventually(lambda: seen)
    task.cancel()
    await eventually(lambda: seen == ["begun", "ended"])
    await wire.release(shared)


async def test_a_mailbox_passes_items_in_order_and_many_at_once() -> None:
    shared = wire.acquire()
    batches: list[list[int]] = []
    hold = threading.Event()
    shared.loop.call_soon_threadsafe(hold.wait, 5)
    mailbox = wire.Mailbox[int](shared.loop, batches.append)
    for number in range(100):
        mailbox.post(number)
    mailbox.post_all([100, 101])
    hold.set()
    await eventually(lambda: sum(map(len, batches)) == 102)
    await wire.release(shared)

    assert [number for batch in batches for number in batch] == list(range(102))
    assert len(batches) == 1


async def test_a_mailbox_loses_nothing_while_both_sides_are_busy() -> None:
    shared = wire.acquire()
    got: list[int] = []
    mailbox = wire.Mailbox[int](shared.loop, got.extend)

    def post() -> None:
        for number in range(50_000):
            mailbox.post(number)

    poster = threading.Thread(target=post)
    poster.start()
    await eventually(lambda: len(got) == 50_000)
    poster.join()
    await wire.release(shared)

    assert got == list(range(50_000))
