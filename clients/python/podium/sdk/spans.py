"""Spans as plain tuples: a microsecond on the path of a task, encoded and sent by a thread.

The program's own OpenTelemetry set-up is used where there is one (see `tracing`); this is what
traces every task when there is none.
"""

from __future__ import annotations

import os
import random
from collections import deque

Value = str | int | float | bool
Attributes = tuple[tuple[str, Value], ...]
Span = tuple[int, int, int, str, int, int, Attributes, str]
"""trace id, span id, parent id (0 = root), name, start ns, end ns, attributes, error."""

SPANS_LEN_MAX = 65_536

# Seeded from the system once a process; ids need to be unique, not unpredictable.
_ids = random.Random(os.urandom(16))
_draw = _ids.getrandbits
os.register_at_fork(after_in_child=lambda: _ids.seed(os.urandom(16)))


def new_trace_id() -> int:
    """Returns a fresh 128-bit trace id."""
    return _draw(128) or 1


def new_span_id() -> int:
    """Returns a fresh 64-bit span id."""
    return _draw(64) or 1


def format_traceparent(trace_id: int, span_id: int) -> str:
    """Returns the W3C `traceparent` of a span."""
    return f"00-{trace_id:032x}-{span_id:016x}-01"


def parse_traceparent(text: str) -> tuple[int, int] | None:
    """Returns (trace id, span id), or None when `text` is no `traceparent`."""
    if len(text) < 55 or text[2] != "-" or text[35] != "-" or text[52] != "-":
        return None
    try:
        trace_id, span_id = int(text[3:35], 16), int(text[36:52], 16)
    except ValueError:
        return None
    return (trace_id, span_id) if trace_id > 0 and span_id > 0 else None


class SpanBuffer:
    """Finished spans on their way out. When it is full, spans are dropped and counted."""

    __slots__ = ("_spans", "dropped")

    def __init__(self) -> None:
        self._spans: deque[Span] = deque()
        self.dropped = 0

    def record(self, span: Span) -> None:
        """Keeps a finished span; never blocks."""
        if len(self._spans) >= SPANS_LEN_MAX:
            self.dropped += 1
        else:
            self._spans.append(span)

    def take(self, count: int) -> list[Span]:
        """Removes and returns at most `count` spans, oldest first; safe from another thread."""
        popleft = self._spans.popleft
        return [popleft() for _ in range(min(count, len(self._spans)))]
