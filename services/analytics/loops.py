"""The loops of Analytics: windows close by the clock, and watchers hear of them as they grow."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from services.analytics.core.windows import View, Windows, lateness_ms
from services.kernel.clock import Clock

close_interval_s = 0.5


class Growth:
    """The windows as time goes by. Implements `ports.WindowFeed`.

    Args:
        windows: Gives the windows, which another log replaces.
        complete: Whether everything that has happened so far is counted.
        clock: Its time.
    """

    def __init__(
        self, windows: Callable[[], Windows], complete: Callable[[], bool], clock: Clock
    ) -> None:
        self._windows = windows
        self._complete = complete
        self._clock = clock
        self.closed = False

    async def drain(self) -> None:
        """Let watchers go at their next interval."""
        self.closed = True

    async def run(self) -> None:
        """Close windows by the clock while the log is quiet, until cancelled."""
        while True:
            await self._clock.sleep(close_interval_s)
            # While events of the past are still being read, only their own time may close windows.
            if self._complete():
                self._windows().close_until(self._clock.now().wall_ms - lateness_ms)

    def newest(self, length_ms: int, count: int, *, rows: bool = True) -> list[View]:
        """Return the last `count` windows, oldest first; without `rows` their totals only."""
        return self._windows().series[length_ms].newest(count, self._until_ms(), rows=rows)

    async def updates(
        self, length_ms: int, count: int, interval_s: float, *, rows: bool = True
    ) -> AsyncIterator[list[View]]:
        """Yield the last `count` windows, then at each interval those that have changed.

        It ends when the service stops.
        """
        told: tuple[int, int] | None = None
        views = self.newest(length_ms, count, rows=rows)
        while not self.closed:
            state = (self._windows().revision, self._until_ms() // length_ms)
            if views and state != told:
                yield views
                told = state
            await self._clock.sleep(interval_s)
            since_ms = next((view.start_ms for view in views if not view.closed), None)
            if since_ms is None:
                views = self.newest(length_ms, count, rows=rows)
            else:
                series = self._windows().series[length_ms]
                views = series.views(since_ms, self._until_ms(), rows=rows)

    def _until_ms(self) -> int:
        # Windows of the time that is still unread would look quiet and be wrong.
        windows = self._windows()
        return self._clock.now().wall_ms if self._complete() else windows.watermark_ms
