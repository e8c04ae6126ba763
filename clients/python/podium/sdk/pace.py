"""Keeps a rate: so many starts a second, evenly spread after an initial burst."""

from __future__ import annotations


class Pace:
    """A token bucket, told the time.

    Args:
        rate_per_s: starts a second in the long run.
        burst: starts that may come at once after a quiet time.

    Raises:
        ValueError: there would be no start at all.
    """

    def __init__(self, rate_per_s: float, burst: int = 1) -> None:
        if rate_per_s <= 0 or burst < 1:
            raise ValueError(f"a rate is above 0 with a burst of 1 or more, not {rate_per_s}")
        self._interval_s = 1.0 / rate_per_s
        self._slack_s = (burst - 1) * self._interval_s
        # When the next start would be if all came evenly.
        self._even_s = float("-inf")
        self._paused_until_s = float("-inf")

    def wait_s(self, now_s: float) -> float:
        """Returns how long a start would have to wait now; 0 = it may begin."""
        return max(0.0, self._even_s - self._slack_s - now_s, self._paused_until_s - now_s)

    def take(self, now_s: float) -> float:
        """Counts a start and returns how long it has to wait."""
        wait_s = self.wait_s(now_s)
        self._even_s = max(self._even_s, now_s + wait_s) + self._interval_s
        return wait_s

    def pause(self, until_s: float) -> None:
        """Lets nothing start before a time."""
        self._paused_until_s = max(self._paused_until_s, until_s)
