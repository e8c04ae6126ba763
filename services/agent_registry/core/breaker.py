"""The circuit breaker of one agent.

Closed until more than 5 of its recent attempts failed and they are more than half of them; open
for a while, then half open, in which one attempt at a time decides.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from typing import NamedTuple

from services.kernel.instant import Instant

failure_rate_max = 0.5
failures_max = 5
window_s = 120.0
window_len = 20
cool_s_first = 10.0
cool_s_max = 300.0


class State(IntEnum):
    """Where a breaker stands; numbers of the wire."""

    CLOSED = 1
    OPEN = 2
    HALF_OPEN = 3


class Standing(NamedTuple):
    """Where a breaker stands, told in wall time so that another process can go on with it."""

    state: int = State.CLOSED
    cool_s: float = cool_s_first
    due_ms: int = 0
    recent: tuple[tuple[int, bool, str], ...] = ()
    """Recent attempts: when, whether it failed, of which task."""


class Breaker:
    """Counts the recent outcomes of an agent and cuts it off when they are bad."""

    __slots__ = ("_cool_s", "_due_s", "_first_s", "_recent", "state")

    def __init__(self, first_s: float = cool_s_first) -> None:
        self.state = State.CLOSED
        self._recent: deque[tuple[float, bool, str]] = deque(maxlen=window_len)
        self._first_s = self._cool_s = first_s
        self._due_s = 0.0

    @classmethod
    def of(cls, standing: Standing, now: Instant, first_s: float = cool_s_first) -> Breaker:
        """Return a breaker that goes on where one stood."""
        breaker = cls(first_s)
        breaker.state = State(standing.state)
        breaker._cool_s = standing.cool_s
        breaker._due_s = now.mono_s + (standing.due_ms - now.wall_ms) / 1e3
        for at_ms, failed, task_id in standing.recent:
            at_s = min(now.mono_s, now.mono_s + (at_ms - now.wall_ms) / 1e3)
            breaker._recent.append((at_s, failed, task_id))
        return breaker

    def standing(self, now: Instant) -> Standing:
        """Return where it stands."""

        def wall_ms(at_s: float) -> int:
            return now.wall_ms + round((at_s - now.mono_s) * 1e3)

        self._forget(now.mono_s)
        recent = tuple((wall_ms(at_s), failed, task) for at_s, failed, task in self._recent)
        due_ms = wall_ms(self._due_s) if self.state is State.OPEN else 0
        return Standing(int(self.state), self._cool_s, due_ms, recent)

    def failure_rate(self, now_s: float) -> float:
        """Return the share of the recent attempts that failed."""
        self._forget(now_s)
        failures = sum(failed for _, failed, _ in self._recent)
        return failures / len(self._recent) if self._recent else 0.0

    def succeeded(self, task_id: str, now_s: float) -> bool:
        """Count a success; return whether the state changed."""
        self._recent.append((now_s, False, task_id))
        if self.state is State.HALF_OPEN:
            self.close()
            return True
        return False

    def failed(self, task_id: str, now_s: float) -> bool:
        """Count a failure; return whether the state changed."""
        self._recent.append((now_s, True, task_id))
        if self.state is State.HALF_OPEN:
            self._cool_s = max(self._cool_s, min(cool_s_max, self._cool_s * 2))
            self._open(now_s)
            return True
        if self.state is State.CLOSED and self._is_bad(now_s):
            self._open(now_s)
            return True
        return False

    def retract(self, task_id: str, now_s: float) -> bool:
        """Take back failures of a task that turned out to be at fault; may close it again."""
        kept = [entry for entry in self._recent if not (entry[1] and entry[2] == task_id)]
        if len(kept) == len(self._recent):
            return False
        self._recent = deque(kept, maxlen=window_len)
        if self.state is State.OPEN and not self._is_bad(now_s):
            # What else it failed still counts.
            self.state = State.CLOSED
            return True
        return False

    def tick(self, now_s: float) -> bool:
        """Let an open breaker that has cooled down try one attempt; return whether it changed."""
        if self.state is State.OPEN and now_s >= self._due_s:
            self.state = State.HALF_OPEN
            return True
        return False

    def resume(self, state: State, now_s: float) -> None:
        """Go on in a state of which nothing else is known: an open one cools down from now on."""
        self.state = state
        self._due_s = now_s + self._cool_s

    def close(self) -> None:
        """Begin anew."""
        self.state = State.CLOSED
        self._cool_s = self._first_s
        self._recent.clear()

    def _open(self, now_s: float) -> None:
        self.state = State.OPEN
        self._due_s = now_s + self._cool_s

    def _is_bad(self, now_s: float) -> bool:
        self._forget(now_s)
        failures = sum(failed for _, failed, _ in self._recent)
        return failures > failures_max and failures / len(self._recent) > failure_rate_max

    def _forget(self, now_s: float) -> None:
        while self._recent and self._recent[0][0] <= now_s - window_s:
            self._recent.popleft()
