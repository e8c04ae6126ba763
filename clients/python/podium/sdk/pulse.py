"""Notices that this program stood still: its loop was held up, or the whole process was.

What was assigned meanwhile may have been taken back, with the word of it still on its way here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

BEAT_S = 0.5
# Beyond its time, from which a beat tells of a standstill: well below the 1 s within which the most
# impatient router wants an Ack.
LATE_S = 0.25
# How long what comes after a standstill counts as from before: it waits in the kernel and in gRPC,
# and is read message by message.
SETTLE_S = 1.0


class Pulse:
    """Beats on the running loop, and tells whether it has just stood still.

    Args:
        clock: of nanoseconds. Unlike the monotonic one the clock on the wall goes on while a
            machine sleeps; that it may also be set costs a question to the router.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._doubtful_until_ns = 0
        self._take_beat(clock())
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(BEAT_S, self._beat)

    @property
    def doubtful(self) -> bool:
        """Whether what is read now may be from before a standstill."""
        # Asked for each message of the router.
        now_ns = self._clock()
        return now_ns < self._doubtful_until_ns or not self._least_ns <= now_ns <= self._most_ns

    def stop(self) -> None:
        """Beats no more."""
        self._timer.cancel()

    def _take_beat(self, now_ns: int) -> None:
        """Notes when it beat, and between which times nothing is wrong."""
        late_ns = round((BEAT_S + LATE_S) * 1e9)
        self._least_ns, self._most_ns = now_ns - late_ns, now_ns + late_ns

    def _beat(self) -> None:
        now_ns = self._clock()
        if not self._least_ns <= now_ns <= self._most_ns:
            self._doubtful_until_ns = now_ns + round(SETTLE_S * 1e9)
        self._take_beat(now_ns)
        self._timer = self._loop.call_later(BEAT_S, self._beat)
