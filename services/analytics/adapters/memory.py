"""Spans in memory: for tests, and where nothing may be written."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from services.analytics.adapters import otlp
from services.analytics.core.trace import Span


class MemorySpans:
    """A ring of requests as they came. Implements `ports.SpanStore`."""

    def __init__(self, *, spans_len_max: int, bytes_max: int) -> None:
        self._spans_len_max = spans_len_max
        self._bytes_max = bytes_max
        self._ring: deque[tuple[otlp.Contents, bytes]] = deque()
        self._bytes_len = 0
        self.spans_len = 0
        self.dropped = 0

    def add(self, request: bytes) -> None:
        """Keep the spans of a request."""
        found = otlp.contents(request)
        if not found.spans_len:
            return
        self._ring.append((found, request))
        self.spans_len += found.spans_len
        self._bytes_len += len(request)
        while self.spans_len > self._spans_len_max or self._bytes_len > self._bytes_max:
            oldest, gone = self._ring.popleft()
            self.spans_len -= oldest.spans_len
            self._bytes_len -= len(gone)

    async def of_trace(self, trace_id: str) -> list[Span]:
        """Return the spans of a trace."""
        return [
            span
            for request in self._with(otlp.trace_key(trace_id))
            for span in otlp.spans(request)
            if span.trace_id == trace_id
        ]

    async def of_task(self, task_id: str) -> list[Span]:
        """Return the spans of the traces that have a span about the task."""
        found: set[str] = set()
        for request in self._with(otlp.task_key(task_id)):
            found |= otlp.about(request, task_id)
        return [span for trace_id in sorted(found) for span in await self.of_trace(trace_id)]

    async def close(self) -> None:
        """Nothing is under way."""

    def _with(self, key: bytes) -> Iterator[bytes]:
        return (request for found, request in self._ring if key in found.keys)
