"""Tumbling windows of event time: each event is counted in exactly one window of each length.

A window closes when the watermark, the latest event time there was, has passed its end by the
allowed lateness, or when the wall clock has and the whole log is read. What comes after that is not
counted in it, but as late. Counting the log again gives the same windows.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from services.analytics.core.histogram import Histogram, Summary, bucket

lengths_ms = (10_000, 300_000)
lateness_ms = 2_000
windows_len_max = 1_000
types_len_max = 256
agents_len_max = 1_024
rows_len_max = 250_000
"""Rows of closed windows of one length, 50 MB; the oldest windows lose their agents beyond it."""

rows_told_max = 10_000
"""Rows of one answer, a tenth of a second's work; the oldest windows are told without theirs."""

other = "other"


class Kind(IntEnum):
    """What is counted."""

    SUBMITTED = 0
    STARTED = 1
    COMPLETED = 2
    FAILED = 3
    ATTEMPT_FAILED = 4
    RETRIED = 5
    CANCELED = 6


class Latency(IntEnum):
    """What is timed."""

    TOTAL = 0
    ASSIGNMENT = 1
    RUN = 2


class Fact(NamedTuple):
    """One event as far as windows care."""

    kind: Kind
    time_ms: int
    task_type: str
    agent_id: str
    """Empty when no agent is concerned."""
    latencies: tuple[tuple[Latency, float], ...] = ()
    """Durations in seconds."""


class Row(NamedTuple):
    """What happened to one type or agent, or to all."""

    key: str
    counts: tuple[int, ...]
    """By `Kind`."""
    latencies: tuple[Summary, ...]
    """By `Latency`."""


class View(NamedTuple):
    """A window as it is told."""

    start_ms: int
    length_ms: int
    closed: bool
    total: Row
    types: tuple[Row, ...] = ()
    agents: tuple[Row, ...] = ()
    late_count: int = 0


Timed = tuple[Latency, int, float]

_kinds = len(Kind)
_latencies = len(Latency)
_summary_len = len(Summary._fields)
_row_len = _kinds + _latencies * _summary_len
_nothing = Row("", (0,) * _kinds, (Summary(),) * _latencies)


class Statistics:
    """Counts and durations that still grow."""

    __slots__ = ("counts", "histograms")

    def __init__(self) -> None:
        self.counts = [0] * _kinds
        self.histograms = (Histogram(), Histogram(), Histogram())

    def count(self, kind: Kind, timed: Sequence[Timed]) -> None:
        """Count one event."""
        self.counts[kind] += 1
        for latency, index, value_s in timed:
            self.histograms[latency].add(index, value_s)

    def merge(self, other: Statistics) -> None:
        """Add everything `other` has counted."""
        for kind, count in enumerate(other.counts):
            self.counts[kind] += count
        for mine, theirs in zip(self.histograms, other.histograms, strict=True):
            mine.merge(theirs)

    def row(self, key: str) -> Row:
        """Return what there is so far."""
        summaries = tuple(histogram.summary() for histogram in self.histograms)
        return Row(key, tuple(self.counts), summaries)


class _Open:
    """A window that grows.

    The total is not counted but added up when it is asked for: every event is of some type.
    """

    def __init__(self) -> None:
        self.types: dict[str, Statistics] = {}
        self.agents: dict[str, Statistics] = {}

    def count(self, fact: Fact, timed: Sequence[Timed]) -> None:
        kind, _, task_type, agent_id, _ = fact
        statistics = self.types.get(task_type) or _of(self.types, task_type, types_len_max)
        statistics.count(kind, timed)
        if agent_id:
            statistics = self.agents.get(agent_id) or _of(self.agents, agent_id, agents_len_max)
            statistics.count(kind, timed)

    def absorb(self, part: _Open) -> None:
        """Add everything that a window inside this one has counted."""
        for key, statistics in part.types.items():
            (self.types.get(key) or _of(self.types, key, types_len_max)).merge(statistics)
        for key, statistics in part.agents.items():
            (self.agents.get(key) or _of(self.agents, key, agents_len_max)).merge(statistics)

    def view(self, start_ms: int, length_ms: int, *, rows: bool = True) -> View:
        total = Statistics()
        for statistics in self.types.values():
            total.merge(statistics)
        if not rows:
            return View(start_ms, length_ms, False, total.row(""))
        types = tuple(statistics.row(key) for key, statistics in self.types.items())
        agents = tuple(statistics.row(key) for key, statistics in self.agents.items())
        return View(start_ms, length_ms, False, total.row(""), types, agents)


class _Closed:
    """A window that only may learn of more late events: numbers packed, 200 bytes a row."""

    def __init__(self, view: View) -> None:
        self._keys = tuple(row.key for row in (*view.types, *view.agents))
        self._types_len = len(view.types)
        self._numbers = array("d")
        self.late_count = 0
        for row in (view.total, *view.types, *view.agents):
            self._numbers.extend(row.counts)
            for summary in row.latencies:
                self._numbers.extend(summary)

    @property
    def agents_len(self) -> int:
        return len(self._keys) - self._types_len

    @property
    def rows_len(self) -> int:
        return len(self._keys) + 1

    def drop_agents(self) -> None:
        self._keys = self._keys[: self._types_len]
        del self._numbers[(1 + self._types_len) * _row_len :]

    def view(self, start_ms: int, length_ms: int, *, rows: bool = True) -> View:
        keys = ("", *self._keys) if rows else ("",)
        told = [self._row(index, key) for index, key in enumerate(keys)]
        types = tuple(told[1 : 1 + self._types_len])
        agents = tuple(told[1 + self._types_len :])
        return View(start_ms, length_ms, True, told[0], types, agents, self.late_count)

    def _row(self, index: int, key: str) -> Row:
        numbers = self._numbers[index * _row_len : (index + 1) * _row_len]
        summaries = []
        for begin in range(_kinds, _row_len, _summary_len):
            times, *durations = numbers[begin : begin + _summary_len]
            summaries.append(Summary(int(times), *durations))
        return Row(key, tuple(int(count) for count in numbers[:_kinds]), tuple(summaries))


class Series:
    """The windows of one length.

    Args:
        length_ms: Of each window.
        within: The longer ones that each of these lies in. What is counted here is added to them
            when the window closes, and to what they tell until then: so an event is counted once.
    """

    def __init__(self, length_ms: int, within: Series | None = None) -> None:
        self.length_ms = length_ms
        self._within = within
        self._parts: Series | None = None
        if within is not None:
            within._parts = self
        self._open: dict[int, _Open] = {}
        self._closed: dict[int, _Closed] = {}
        self._rows_len = 0
        self._first_ms: int | None = None
        self._next_ms = 0
        """No window that begins before it is open any more."""

    def count(self, fact: Fact, timed: Sequence[Timed]) -> bool:
        """Count an event in its window; False when that is closed."""
        start_ms = fact.time_ms - fact.time_ms % self.length_ms
        if start_ms < self._next_ms:
            if start_ms >= self._next_ms - windows_len_max * self.length_ms:
                self._late(start_ms)
            return False
        self._opened(start_ms).count(fact, timed)
        return True

    def _opened(self, time_ms: int) -> _Open:
        start_ms = time_ms - time_ms % self.length_ms
        window = self._open.get(start_ms)
        if window is None:
            window = self._open[start_ms] = _Open()
            self._reach(start_ms)
            if self._within is not None:
                # It ends no sooner than this one, so that it is open as well.
                self._within._opened(start_ms)
        return window

    def _late(self, start_ms: int) -> None:
        closed = self._closed.get(start_ms)
        if closed is None:
            closed = self._closed[start_ms] = _Closed(self._view(start_ms))
            self._rows_len += closed.rows_len
            self._reach(start_ms)
        closed.late_count += 1

    def _reach(self, start_ms: int) -> None:
        self._first_ms = start_ms if self._first_ms is None else min(self._first_ms, start_ms)

    def close_until(self, time_ms: int) -> int:
        """Close every window that ends at `time_ms` or before; return how many had events."""
        next_ms = time_ms - time_ms % self.length_ms
        if self._first_ms is None or next_ms <= self._next_ms:
            return 0
        self._next_ms = next_ms
        ended = sorted(start for start in self._open if start < next_ms)
        for start_ms in ended:
            window = self._open.pop(start_ms)
            if self._within is not None:
                self._within._opened(start_ms).absorb(window)
            closed = _Closed(window.view(start_ms, self.length_ms))
            self._closed[start_ms] = closed
            self._rows_len += closed.rows_len
        self._shrink(next_ms)
        return len(ended)

    def views(self, since_ms: int, until_ms: int, *, rows: bool = True) -> list[View]:
        """Return the windows that begin from `since_ms` to `until_ms`, quiet ones included.

        Without `rows` they have their totals only, which is quick however many agents there are.
        """
        if self._first_ms is None:
            return []
        length_ms = self.length_ms
        last_ms = max([until_ms - until_ms % length_ms, *self._open])
        oldest_ms = last_ms - (windows_len_max - 1) * length_ms
        begin_ms = max(self._first_ms, oldest_ms, since_ms - since_ms % length_ms)
        told: list[View] = []
        rows_left = rows_told_max if rows else 0
        for start_ms in range(last_ms, begin_ms - 1, -length_ms):
            told.append(self._view(start_ms, rows=rows_left > 0))
            rows_left -= len(told[-1].types) + len(told[-1].agents)
        return told[::-1]

    def newest(self, count: int, until_ms: int, *, rows: bool = True) -> list[View]:
        """Return the last `count` windows up to that of `until_ms`, oldest first."""
        last_ms = max([until_ms - until_ms % self.length_ms, *self._open])
        return self.views(last_ms - (count - 1) * self.length_ms, until_ms, rows=rows)

    def _view(self, start_ms: int, *, rows: bool = True) -> View:
        growing = self._open.get(start_ms)
        if growing is not None:
            return self._with_parts(start_ms, growing).view(start_ms, self.length_ms, rows=rows)
        window = self._closed.get(start_ms)
        if window is not None:
            return window.view(start_ms, self.length_ms, rows=rows)
        return View(start_ms, self.length_ms, start_ms < self._next_ms, _nothing)

    def _with_parts(self, start_ms: int, window: _Open) -> _Open:
        """Return an open window with what its parts have not handed over yet."""
        if self._parts is None:
            return window
        end_ms = start_ms + self.length_ms
        whole = _Open()
        whole.absorb(window)
        for begin_ms, part in self._parts._open.items():
            if start_ms <= begin_ms < end_ms:
                whole.absorb(part)
        return whole

    def _shrink(self, next_ms: int) -> None:
        oldest_ms = next_ms - windows_len_max * self.length_ms
        for start_ms in [start for start in self._closed if start < oldest_ms]:
            self._rows_len -= self._closed.pop(start_ms).rows_len
        if self._first_ms is not None:
            self._first_ms = max(self._first_ms, oldest_ms)
        # In order of closing, and therefore nearly of time.
        for closed in self._closed.values():
            if self._rows_len <= rows_len_max:
                break
            self._rows_len -= closed.agents_len
            closed.drop_agents()


class Windows:
    """All windows."""

    def __init__(self) -> None:
        short_ms, long_ms = lengths_ms
        self._long = Series(long_ms)
        self._short = Series(short_ms, self._long)
        # The short ones close first: what they hold is part of the long ones.
        self.series = {short_ms: self._short, long_ms: self._long}
        self.positions: dict[int, int] = {}
        """Last event of each partition that was taken in."""
        self.watermark_ms = 0
        self.late_count = 0
        self.closed_count = 0
        self.revision = 0
        """Rises whenever a window changes."""

    def advance(self, seq: int, partition: int = 0) -> bool:
        """Note that the event `seq` of a partition is taken in now; False if it already was."""
        if seq <= self.positions.get(partition, 0):
            return False
        self.positions[partition] = seq
        return True

    def count(self, fact: Fact) -> None:
        """Count an event."""
        timed = [(latency, bucket(value_s), value_s) for latency, value_s in fact.latencies]
        if not self._short.count(fact, timed):
            self.late_count += 1
            if not self._long.count(fact, timed):
                self.late_count += 1
        self.revision += 1
        if fact.time_ms > self.watermark_ms:
            self.watermark_ms = fact.time_ms
            self.close_until(fact.time_ms - lateness_ms)

    def close_until(self, time_ms: int) -> None:
        """Close the windows that ended by then: no event from before is expected any more."""
        for series in self.series.values():
            closed = series.close_until(time_ms)
            if closed:
                self.closed_count += closed
                self.revision += 1


def _of(statistics: dict[str, Statistics], key: str, len_max: int) -> Statistics:
    known = statistics.get(key)
    if known is None:
        # The last place is for all that find none.
        if len(statistics) >= len_max - 1 and key != other:
            return _of(statistics, other, len_max)
        known = statistics[key] = Statistics()
    return known
