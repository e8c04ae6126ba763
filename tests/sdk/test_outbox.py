from __future__ import annotations

import asyncio

from podium.sdk.outbox import BATCH_LEN_MAX, LINGER_S_MAX, Outbox, Rhythm


async def test_a_quiet_outbox_sends_at_once() -> None:
    outbox: Outbox[int] = Outbox()
    taking = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    outbox.put(1)

    assert await taking == [1]


async def test_under_load_the_next_batch_gathers_for_a_moment_and_not_for_ever() -> None:
    outbox: Outbox[int] = Outbox()
    for _ in range(200):
        outbox.extend(range(BATCH_LEN_MAX))
        await outbox.take()
    outbox.put(1)
    taking = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    assert not taking.done()
    outbox.put(2)

    assert await asyncio.wait_for(taking, 5) == [1, 2]


def test_load_is_a_rate_and_not_a_backlog() -> None:
    for every_s, waits in ((1.0, False), (0.0033, False), (0.0005, True)):
        rhythm, now_s = Rhythm(), 100.0
        for _ in range(400):
            rhythm.sent(now_s, 1)
            assert rhythm.wait_s(now_s) <= LINGER_S_MAX
            now_s += every_s
        assert (rhythm.wait_s(now_s - every_s) > 0) == waits


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
