"""When snapshots are taken, and for how long they hold the loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from services.kernel.instant import Instant
from services.task_scheduler.core.requests import Stretch
from services.task_scheduler.loops.snapshots import (
    LOOK_S,
    STORE_BYTES_PER_S,
    WORK_SHARE,
    Keeper,
    Retention,
)

START_S = 1_000.0


class Busy:
    """A clock whose pauses take as long as others keep the loop; packing takes a millisecond."""

    def __init__(self, pause_s: float, part: bytes = b"") -> None:
        self.pause_s = pause_s
        self.part = part
        self.time = Instant(START_S, 1_700_000_000_000)
        self.pauses = 0

    def now(self) -> Instant:
        return self.time

    def spend(self, seconds: float) -> None:
        self.time = self.time._replace(mono_s=self.time.mono_s + seconds)

    async def sleep(self, seconds: float) -> None:
        self.pauses += 1
        self.spend(max(seconds, self.pause_s))

    def pack(self, part: object) -> bytes:
        self.spend(0.001)
        return self.part


class Enough(Exception):
    """Ends a loop."""


class Stored:
    """A journal that notes when a snapshot is stored; the second one ends the loop."""

    def __init__(self, clock: Busy, parts_len: int) -> None:
        self.times_s: list[float] = []
        self._clock = clock
        self._parts_len = parts_len

    async def keep(self, seq: int, packed: AsyncIterator[bytes]) -> None:
        assert len([part async for part in packed]) == self._parts_len
        self.times_s.append(self._clock.time.mono_s)
        if len(self.times_s) == 2:
            raise Enough

    async def compact(self, before_ms: int, size_bytes_max: int) -> None:
        pass


def keeping(clock: Busy, parts_len: int) -> tuple[Keeper, Stored]:
    """Return what takes snapshots of so many parts, all of them new; there is always a reason."""

    async def picture() -> Any:
        rows = [[Stretch([], 0, 0) for _ in range(parts_len - 1)]]
        return SimpleNamespace(seq=7, head={}, tasks=[], requests=rows, drop=lambda: None)

    async def settled() -> None:
        pass

    committer: Any = SimpleNamespace(
        picture=picture, settled=settled, started=settled, snapshot_seq=0, durable_seq=9_999
    )
    stored, codec = Stored(clock, parts_len), clock
    keeper = Keeper(committer, stored, codec, clock, Retention(snapshot_events=1))  # type: ignore[arg-type]  # as much of each as it uses
    return keeper, stored


async def taken(pause_s: float, parts_len: int) -> Busy:
    """Take a snapshot of so many parts."""
    clock = Busy(pause_s)
    await keeping(clock, parts_len)[0].take()
    return clock


async def test_a_snapshot_takes_a_third_of_the_loop_while_it_is_quiet() -> None:
    clock = await taken(pause_s=0.002, parts_len=60)

    assert clock.pauses == 60
    assert clock.time.mono_s - START_S == pytest.approx(0.18)


async def test_a_snapshot_on_a_busy_loop_works_for_longer_at_a_time() -> None:
    clock = await taken(pause_s=0.012, parts_len=60)

    assert 60 / 5 <= clock.pauses <= 60 / 4


@pytest.mark.parametrize(
    ("part", "parts_len", "apart_s"),
    [
        (b"", 600, 0.6 / WORK_SHARE),
        (bytes(STORE_BYTES_PER_S // 5), 20, 20 / 5),
    ],
)
async def test_snapshots_wait_for_each_other_by_what_they_take_of_the_loop_and_store(
    part: bytes, parts_len: int, apart_s: float
) -> None:
    keeper, stored = keeping(Busy(0.002, part), parts_len)

    with pytest.raises(Enough):
        await keeper.run()

    first_s, second_s = stored.times_s
    taking_s = 3 * 0.001 * parts_len
    assert 0 <= round(second_s - first_s - taking_s - apart_s, 3) <= LOOK_S
