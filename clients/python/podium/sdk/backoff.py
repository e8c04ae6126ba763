"""Waits between tries: exponential with full jitter, so that a fleet never returns as a herd."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable

SPREAD = 0.25


def after(away_s: float) -> float:
    """Returns how long to stay away when asked to for `away_s`: up to a quarter longer.

    Those who were asked at once must not return at once.
    """
    return away_s * random.uniform(1.0, 1.0 + SPREAD)


class Backoff:
    """Gives the next wait in seconds: drawn evenly from 0 to a bound that doubles up to a cap."""

    def __init__(
        self,
        first_s: float = 0.1,
        cap_s: float = 5.0,
        *,
        draw: random.Random | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._first_s = first_s
        self._cap_s = cap_s
        self._draw = draw or random.Random()
        self._sleep = sleep
        self.failures = 0

    def next_s(self, cap_s: float = math.inf) -> float:
        """Returns how long to wait after one more failure, with a lower cap if there is one."""
        bound_s = min(self._cap_s, cap_s, self._first_s * 2.0 ** min(self.failures, 16))
        self.failures += 1
        return self._draw.uniform(0, bound_s)

    async def wait(self, least_s: float = 0.0, cap_s: float = math.inf) -> None:
        """Waits after one more failure, at least so long, with a lower cap if there is one."""
        await self._sleep(max(self.next_s(cap_s), least_s))

    def lasted(self, seconds: float) -> None:
        """Notes for how long it worked: it begins again only after more than its longest wait.

        What is let in and thrown out at once would else come back as fast as it can be.
        """
        if seconds > self._cap_s:
            self.reset()

    def reset(self) -> None:
        """Begins again: it worked."""
        self.failures = 0
