"""How a connection behaves: how fast it talks, and how often what it says must be refused."""

from __future__ import annotations

from collections import deque
from typing import Protocol

strikes_max = 5
strikes_window_s = 60.0


def lot_of(burst: int) -> int:
    """Return how many messages are granted together where so many may come at once."""
    return max(1, burst // 64)


class Bucket(Protocol):
    """Limits a rate, told the time."""

    def take(self, now_s: float, n: float = 1) -> float:
        """Return 0, or the seconds to wait."""
        ...


class Conduct:
    """The record of one connection."""

    __slots__ = ("_bucket", "_granted", "_lot", "_strikes")

    def __init__(self, bucket: Bucket, lot: int = 1) -> None:
        self._bucket = bucket
        self._lot = lot
        self._granted = 0
        self._strikes: deque[float] = deque(maxlen=strikes_max)

    def granted(self) -> bool:
        """Count one message or ping, if it was granted before: then nobody needs to know the time.

        Reading the clock and the bucket for each message costs more than reading a short message.
        """
        if not self._granted:
            return False
        self._granted -= 1
        return True

    def too_fast(self, now_s: float) -> bool:
        """Count one message or ping that was not granted; tell whether it is one too many."""
        if self._lot > 1 and not self._bucket.take(now_s, self._lot):
            self._granted = self._lot - 1
            return False
        return self._bucket.take(now_s) > 0

    def strike(self, now_s: float) -> bool:
        """Count one message that made no sense; tell whether the connection must end.

        One bad message is a mistake and is answered; five within a minute are a broken program,
        which would go on for ever.
        """
        self._strikes.append(now_s)
        return len(self._strikes) == strikes_max and now_s - self._strikes[0] <= strikes_window_s
