"""Wall time to the microsecond, of a clock that tells milliseconds."""

from __future__ import annotations


class FineTime:
    """Puts the monotonic clock on the wall clock.

    The wall clock says in which millisecond it is, the monotonic one how far into it, as soon as it
    is known where a millisecond begins on it: each moment that says otherwise corrects that. So a
    time is never in another millisecond than the wall clock said.
    """

    __slots__ = ("_ahead_us",)

    def __init__(self) -> None:
        self._ahead_us = 0
        """How far the wall clock is ahead of the monotonic one, as far as is known."""

    def wall_us(self, wall_ms: int, mono_s: float) -> int:
        """Return the wall time in microseconds since 1970.

        Args:
            wall_ms: The wall clock.
            mono_s: The monotonic clock at the same moment.
        """
        begin_us = wall_ms * 1000
        beyond_us = round(mono_s * 1e6) + self._ahead_us - begin_us
        within_us = min(max(beyond_us, 0), 999)
        self._ahead_us += within_us - beyond_us
        return begin_us + within_us
