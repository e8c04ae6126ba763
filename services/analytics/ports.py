"""What Analytics needs of the world."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from services.analytics.core.trace import Span
from services.analytics.core.windows import View


class SpanStore(Protocol):
    """Keeps the most recent spans, up to a number and a size; what is older is dropped.

    It may lose spans and never blocks whoever brings them.
    """

    @property
    def dropped(self) -> int:
        """Spans that were turned away because too many came at once."""

    @property
    def spans_len(self) -> int:
        """Spans that are kept."""

    def add(self, request: bytes) -> None:
        """Keep the spans of an encoded ExportTraceServiceRequest."""

    async def of_trace(self, trace_id: str) -> list[Span]:
        """Return the spans of a trace, in any order, those just added included."""

    async def of_task(self, task_id: str) -> list[Span]:
        """Return the spans of every trace that has a span about the task, in any order."""

    async def close(self) -> None:
        """Finish what is under way."""


class LegSource(Protocol):
    """Tells what services did for a task, as spans."""

    async def of_task(self, task_id: str) -> list[Span]:
        """Return the legs of a task in any order; none of one that is not known any more.

        Raises:
            Unavailable: SCHEDULER_UNREACHABLE, the log cannot be asked.
        """


class WindowFeed(Protocol):
    """The windows as they are and as they grow."""

    def newest(self, length_ms: int, count: int, *, rows: bool = True) -> list[View]:
        """Return the last `count` windows, oldest first; without `rows` their totals only."""

    def updates(
        self, length_ms: int, count: int, interval_s: float, *, rows: bool = True
    ) -> AsyncIterator[list[View]]:
        """Yield the last `count` windows, then at each interval those that have changed."""
