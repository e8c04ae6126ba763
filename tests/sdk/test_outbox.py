from __future__ import annotations

import asyncio
import time

from podium.sdk.outbox import BATCH_LEN_MAX, LINGER_S_MAX, Outbox


async def test_a_quiet_outbox_sends_at_once() -> None:
    outbox: Outbox[int] = Outbox()
    taking = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    outbox.put(1)

    assert await taking == [1]


async def test_after_a_batch_of_several_the_next_gathers_for_a_moment() -> None:
    outbox: Outbox[int] = Outbox()
    outbox.extend(range(16))
    assert len(await outbox.take()) == 16
    start_s = time.monotonic()
    outbox.put(16)
    taking = asyncio.create_task(outbox.take())
    await asyncio.sleep(LINGER_S_MAX / 4)
    outbox.put(17)

    assert await taking == [16, 17]
    assert time.monotonic() - start_s >= LINGER_S_MAX / 2


async def test_a_full_batch_does_not_wait() -> None:
    outbox: Outbox[int] = Outbox()
    outbox.extend(range(3 * BATCH_LEN_MAX))

    batches = [await outbox.take() for _ in range(3)]

    assert [len(batch) for batch in batches] == [BATCH_LEN_MAX] * 3
    assert [item for batch in batches for item in batch] == list(range(3 * BATCH_LEN_MAX))


async def test_a_closed_outbox_gives_what_it_has_and_then_nothing() -> None:
    outbox: Outbox[int] = Outbox()
    outbox.put(1)
    outbox.close()
    outbox.put(2)

    assert await outbox.take() == [1]
    assert await outbox.take() == []


async def test_closing_wakes_who_waits() -> None:
    outbox: Outbox[int] = Outbox()
    taking = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    outbox.close()

    assert await asyncio.wait_for(taking, 5) == []


async def test_what_is_held_waits_for_what_it_leaves_with_and_not_for_ever() -> None:
    outbox: Outbox[int] = Outbox()

    outbox.extend([1], hold_s=30.0)
    taking = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    assert not taking.done()
    outbox.extend([2])
    assert await asyncio.wait_for(taking, 5) == [1, 2]

    outbox.extend([3], hold_s=0.001)
    assert await asyncio.wait_for(outbox.take(), 5) == [3]
