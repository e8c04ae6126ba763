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


def _wall_s() -> float:
    # Unlike the monotonic clock it goes on while a machine sleeps; that it may also be set costs a
    # question to the router.
    return time.time_ns() / 1e9


class Pulse:
    """Beats on the running loop, and tells whether it has just stood still."""

    def __init__(self, clock: Callable[[], float] = _wall_s) -> None:
        self._clock = clock
        self._beat_s = clock()
        self._doubtful_until_s = float("-inf")
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(BEAT_S, self._beat)

    @property
    def doubtful(self) -> bool:
        """Whether what is read now may be from before a standstill."""
        now_s = self._clock()
        return now_s < self._doubtful_until_s or self._stood(now_s)

    def stop(self) -> None:
        """Beats no more."""
        self._timer.cancel()

    def _stood(self, now_s: float) -> bool:
        return abs(now_s - self._beat_s) > BEAT_S + LATE_S

    def _beat(self) -> None:
        now_s = self._clock()
        if self._stood(now_s):
            self._doubtful_until_s = now_s + SETTLE_S
        self._beat_s = now_s
        self._timer = self._loop.call_later(BEAT_S, self._beat)
