from __future__ import annotations

import pytest

from podium.sdk import pulse as pulse_module
from podium.sdk.pulse import LATE_S, SETTLE_S, Pulse
from tests.support.waiting import eventually


class Clock:
    now_s = 1_000.0
    reads = 0

    def __call__(self) -> int:
        self.reads += 1
        return round(self.now_s * 1e9)

    async def read(self, count: int) -> None:
        """Waits until it was read so often more."""
        wanted = self.reads + count
        await eventually(lambda: self.reads >= wanted)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse_module, "BEAT_S", 0.01)


async def test_a_loop_that_goes_on_is_not_doubted() -> None:
    clock = Clock()
    pulse = Pulse(clock)
    for _ in range(3):
        clock.now_s += LATE_S
        assert not pulse.doubtful
        await clock.read(1)

    pulse.stop()


@pytest.mark.parametrize("leap_s", [5.0, -5.0], ids=["slept", "set back"])
async def test_a_standstill_is_noticed_before_the_next_beat_and_for_a_moment_after_it(
    leap_s: float,
) -> None:
    clock = Clock()
    pulse = Pulse(clock)
    clock.now_s += leap_s
    assert pulse.doubtful

    await clock.read(2)
    assert pulse.doubtful, "what was sent meanwhile may still be on its way here"
    for _ in range(6):
        clock.now_s += SETTLE_S / 5
        await clock.read(1)

    assert not pulse.doubtful
    pulse.stop()
