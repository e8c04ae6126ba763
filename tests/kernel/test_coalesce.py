from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from services.kernel import limits
from services.kernel.coalesce import Outbox, Rhythm, linger_s_max, linger_s_min, messages
from services.kernel.errors import ResourceExhausted


def waits(rhythm: Rhythm, every_s: float, batch_len: int, count: int = 400) -> list[float]:
    """Sends `count` messages at this pace; returns how long each next one would have to wait."""
    found, now_s = [], 100.0
    for _ in range(count):
        rhythm.sent(now_s, batch_len)
        found.append(rhythm.wait_s(now_s))
        now_s += every_s
    return found


@pytest.mark.parametrize(
    ("every_s", "batch_len", "longest_s"),
    [
        (1.0, 1, 0.0),
        (1.0, 256, 0.0),  # a large batch now and then is no load
        (0.0033, 1, 0.0),  # 300 a second, one by one
        (0.002, 1, 0.0),  # two within 3 ms: not worth it
        (0.0005, 1, linger_s_max),  # evenly, and never two at once: a load all the same
        (0.001, 3, linger_s_max),
        (0.002, 100, linger_s_max),
    ],
)
def test_only_what_comes_fast_is_made_to_wait(
    every_s: float, batch_len: int, longest_s: float
) -> None:
    found = waits(Rhythm(), every_s, batch_len)

    assert max(found) <= longest_s + 1e-9
    assert (found[-1] > 0) == (longest_s > 0)


def test_the_wait_grows_with_the_load_up_to_its_bound() -> None:
    some, much = waits(Rhythm(), 0.002, 4)[-1], waits(Rhythm(), 0.001, 100)[-1]

    assert linger_s_min < some < much == pytest.approx(linger_s_max)


def test_the_first_message_after_a_pause_leaves_at_once_and_so_does_the_next() -> None:
    rhythm = Rhythm()
    waits(rhythm, 0.001, 100)

    assert rhythm.wait_s(200.0) <= 0
    rhythm.sent(200.0, 1)
    assert rhythm.wait_s(200.0) <= 0


async def load(outbox: Outbox[int], batches: AsyncIterator[list[int]]) -> None:
    """Lets so much pass that what comes next gathers."""
    for _ in range(200):
        outbox.extend([0] * outbox._batch_len_max)
        await anext(batches)


async def test_a_quiet_queue_gives_each_item_at_once() -> None:
    # A minute of lingering: whatever waits for it, times out.
    outbox: Outbox[int] = Outbox(linger_s=60.0)
    batches = outbox.batches()
    for number in range(5):
        outbox.put(number)
        assert await asyncio.wait_for(anext(batches), 5) == [number]


async def test_what_is_put_together_leaves_together() -> None:
    outbox: Outbox[int] = Outbox()
    outbox.extend([1, 2])
    outbox.put(3)

    assert await anext(outbox.batches()) == [1, 2, 3]


async def test_under_load_items_gather_until_the_batch_is_full() -> None:
    outbox: Outbox[int] = Outbox(batch_len_max=4, linger_s=60.0)
    batches = outbox.batches()
    await load(outbox, batches)

    reading = asyncio.ensure_future(anext(batches))
    for number in (3, 4, 5):
        outbox.put(number)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not reading.done()
    outbox.put(6)

    assert await asyncio.wait_for(reading, 5) == [3, 4, 5, 6]


async def test_gathering_ends_by_itself() -> None:
    outbox: Outbox[int] = Outbox(batch_len_max=4, linger_s=0.02)
    batches = outbox.batches()
    await load(outbox, batches)
    outbox.put(3)

    assert await asyncio.wait_for(anext(batches), 5) == [3]


async def test_a_big_queue_leaves_in_full_batches_in_order() -> None:
    outbox: Outbox[int] = Outbox(batch_len_max=256)
    outbox.extend(range(1_000))
    outbox.close()

    batches = [batch async for batch in outbox.batches()]

    assert [len(batch) for batch in batches] == [256, 256, 256, 232]
    assert [number for batch in batches for number in batch] == list(range(1_000))


async def test_a_full_queue_refuses_and_keeps_what_it_has() -> None:
    outbox: Outbox[int] = Outbox(queue_len_max=2)
    outbox.extend([1, 2])

    assert not outbox.offer(3)
    with pytest.raises(ResourceExhausted) as caught:
        outbox.put(3)
    assert caught.value.reason == "OUTBOX_FULL" and caught.value.retry_after_s
    with pytest.raises(ResourceExhausted):
        outbox.extend([3])
    assert len(outbox) == 2
    assert await anext(outbox.batches()) == [1, 2]


async def test_all_of_a_group_fits_or_none_of_it() -> None:
    outbox: Outbox[int] = Outbox(queue_len_max=3)
    outbox.put(1)

    with pytest.raises(ResourceExhausted):
        outbox.extend([2, 3, 4])
    assert len(outbox) == 1


async def test_after_close_the_rest_is_read_and_then_the_end() -> None:
    outbox: Outbox[int] = Outbox()
    outbox.put(1)
    outbox.close()
    outbox.put(2)

    assert outbox.closed and not outbox.offer(3)
    assert [batch async for batch in outbox.batches()] == [[1]]


async def test_closing_wakes_a_waiting_reader() -> None:
    outbox: Outbox[int] = Outbox()

    async def read(batches: AsyncIterator[list[int]]) -> list[list[int]]:
        return [batch async for batch in batches]

    reading = asyncio.create_task(read(outbox.batches()))
    await asyncio.sleep(0)
    outbox.close()

    assert await asyncio.wait_for(reading, 5) == []


async def test_a_reader_that_gave_up_leaves_the_queue_usable() -> None:
    outbox: Outbox[int] = Outbox()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await anext(outbox.batches())
    outbox.put(1)

    assert await anext(outbox.batches()) == [1]


class Parcel:
    """A message of known size."""

    def __init__(self, items: Sequence[int]) -> None:
        self.items = list(items)

    def ByteSize(self) -> int:
        return sum(self.items)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([1, 2, 3], [[1, 2, 3]]),
        ([700, 700, 10], [[700], [700, 10]]),
        ([300] * 8, [[300, 300]] * 4),
        ([5_000], [[5_000]]),
        ([5_000, 1], [[5_000], [1]]),
    ],
)
def test_a_batch_too_large_for_one_message_leaves_in_several_in_order(
    sizes: list[int], expected: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "stream_batch_bytes_max", 1_000)

    assert [parcel.items for parcel in messages(sizes, Parcel)] == expected


def test_what_is_coalesced_leaves_room_below_what_the_transport_takes() -> None:
    assert limits.stream_batch_bytes_max + limits.payload_bytes_max < limits.message_bytes_max


async def test_a_patient_item_leaves_with_the_next_and_keeps_its_place() -> None:
    outbox: Outbox[str] = Outbox()
    batches = outbox.batches()
    reading = asyncio.create_task(anext(batches))
    await asyncio.sleep(0)

    outbox.offer("settled", patient=True)
    await asyncio.sleep(0)
    assert not reading.done()
    outbox.offer("grant")

    assert await reading == ["settled", "grant"]


async def test_a_patient_item_does_not_wait_for_ever() -> None:
    outbox: Outbox[str] = Outbox()
    batches = outbox.batches()

    for number in ("first", "second"):
        reading = asyncio.create_task(anext(batches))
        await asyncio.sleep(0)
        outbox.offer(number, patient=True)
        assert await asyncio.wait_for(reading, 5) == [number]


async def test_a_patient_item_waits_for_others_though_its_reader_was_away() -> None:
    outbox: Outbox[str] = Outbox(patience_s=60.0)
    outbox.offer("settled", patient=True)

    reading = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    assert not reading.done()
    outbox.offer("grant")

    assert await reading == ["settled", "grant"]


async def test_each_patient_item_has_all_of_its_time() -> None:
    outbox: Outbox[int] = Outbox(patience_s=0.05)
    loop = asyncio.get_running_loop()

    for number in range(3):
        outbox.offer(number, patient=True)
        await asyncio.sleep(0.02)
        outbox.offer(number)
        assert await outbox.take() == [number, number]
    outbox.offer(9, patient=True)
    offered_s = loop.time()

    assert await outbox.take() == [9]
    assert loop.time() - offered_s > 0.045, "not with the timer of one before it"


async def test_patient_items_leave_before_the_end() -> None:
    outbox: Outbox[int] = Outbox(patience_s=60.0)
    outbox.offer(1, patient=True)
    outbox.close()

    assert [batch async for batch in outbox.batches()] == [[1]]


async def test_urgent_items_leave_first_and_both_kinds_keep_their_order() -> None:
    outbox: Outbox[str] = Outbox(batch_len_max=3)
    for item in ("a", "b", "c"):
        outbox.offer(item)
    for item in ("X", "Y"):
        outbox.offer(item, urgent=True)
    outbox.close()

    assert len(outbox) == 5 and list(outbox.in_order) == ["a", "b", "c"]
    assert [batch async for batch in outbox.batches()] == [["X", "Y", "a"], ["b", "c"]]


async def test_an_urgent_item_waits_for_nothing() -> None:
    outbox: Outbox[int] = Outbox(linger_s=60.0, batch_len_max=64, patience_s=60.0)
    batches = outbox.batches()
    await load(outbox, batches)
    outbox.put(1)
    reading = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0)
    assert not reading.done(), "under load one item gathers"

    outbox.offer(2, urgent=True)

    assert await asyncio.wait_for(reading, 5) == [2, 1]


async def test_a_prompt_item_leaves_at_once_and_in_its_order() -> None:
    outbox: Outbox[int] = Outbox(linger_s=60.0, batch_len_max=64, patience_s=60.0)
    batches = outbox.batches()
    await load(outbox, batches)
    outbox.put(1)
    reading = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0)
    assert not reading.done(), "under load one item gathers"

    outbox.offer(2, prompt=True)

    assert await asyncio.wait_for(reading, 5) == [1, 2]


async def test_a_prompt_item_is_not_held_up_by_a_reader_that_is_away() -> None:
    outbox: Outbox[int] = Outbox(linger_s=60.0, batch_len_max=64, patience_s=60.0)
    batches = outbox.batches()
    await load(outbox, batches)
    outbox.offer(1, prompt=True)
    outbox.put(2)

    assert await asyncio.wait_for(anext(batches), 5) == [1, 2]

    outbox.put(3)
    reading = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0)
    assert not reading.done(), "what comes after it gathers"
    reading.cancel()


async def test_urgent_items_count_against_the_bound() -> None:
    outbox: Outbox[int] = Outbox(queue_len_max=2)
    assert outbox.offer(1, urgent=True) and outbox.offer(2)

    assert not outbox.offer(3, urgent=True)
    assert not outbox.offer(3)
