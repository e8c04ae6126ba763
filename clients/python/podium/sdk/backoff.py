"""Waits between tries: exponential with full jitter, so that a fleet never returns as a herd."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable


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

    def next_s(self) -> float:
        """Returns how long to wait after one more failure."""
        bound_s = min(self._cap_s, self._first_s * 2.0 ** min(self.failures, 16))
        self.failures += 1
        return self._draw.uniform(0, bound_s)

    async def wait(self) -> None:
        """Waits after one more failure."""
        await self._sleep(self.next_s())

    def reset(self) -> None:
        """Begins again: it worked."""
        self.failures = 0
