"""Spans as plain tuples: about a microsecond on the path of a task, encoded later elsewhere.

The OpenTelemetry SDK costs 60-90 us a span with export, which at Podium's rates is most of the
machine; so `record` only appends, and a thread of its own does the rest. What the log tells anyway
is not recorded at all: Analytics reads it there.
"""

from __future__ import annotations

import os
import random
import re
from collections import deque
from hashlib import blake2b

Value = str | int | float | bool
Attributes = tuple[tuple[str, Value], ...]
Span = tuple[int, int, int, str, int, int, Attributes, str]
"""trace id, span id, parent id (0 = root), name, start ns, end ns, attributes, error."""

_SAMPLED = "01"
# version-trace-parent-flags in fixed columns, no id zero; a later version, of which ff is none, may
# append more fields.
_FIELDS = "(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
_TRACEPARENT = re.compile(
    f"00-{_FIELDS}|(?!00|ff)[0-9a-f]{{2}}-{_FIELDS}(?:-.*)?", re.DOTALL
).fullmatch

# Seeded from the system once a process; ids need to be unique, not unpredictable.
_ids = random.Random(os.urandom(16))
_draw = _ids.getrandbits
os.register_at_fork(after_in_child=lambda: _ids.seed(os.urandom(16)))


def new_trace_id() -> int:
    """Return a fresh 128-bit trace id."""
    return _draw(128) or 1


def new_span_id() -> int:
    """Return a fresh 64-bit span id."""
    return _draw(64) or 1


def format_traceparent(trace_id: int, span_id: int) -> str:
    """Return the W3C `traceparent` of a span."""
    return f"00-{trace_id:032x}-{span_id:016x}-{_SAMPLED}"


def is_traceparent(text: str) -> bool:
    """Whether `text` is a valid `traceparent`."""
    return _TRACEPARENT(text) is not None


def parse_traceparent(text: str) -> tuple[int, int] | None:
    """Return (trace id, span id), or None when `text` is not a valid `traceparent`."""
    return (int(text[3:35], 16), int(text[36:52], 16)) if is_traceparent(text) else None


def leg_id(leg: str, task_id: str, number: int) -> str:
    """Return the id of a span that a service leaves of a task, 16 hexadecimal digits.

    It follows from what the span is about, so that whoever needs it makes it, and makes it again.

    Args:
        leg: Its name.
        task_id: The task.
        number: Which of this name it is: the lease's epoch, or the event's position in the log.
    """
    return blake2b(f"{leg} {task_id} {number}".encode(), digest_size=8).hexdigest()


def below(traceparent: str, span_id: str) -> str:
    """Return a valid `traceparent` with another span in it."""
    return traceparent[:36] + span_id + traceparent[52:]


class Tracer:
    """A bounded buffer of finished spans. `record` never blocks: when full, it drops and counts."""

    __slots__ = ("_spans", "_spans_len_max", "dropped", "recorded")

    def __init__(self, spans_len_max: int = 65_536) -> None:
        self._spans: deque[Span] = deque()
        self._spans_len_max = spans_len_max
        self.dropped = 0
        self.recorded = 0

    def __len__(self) -> int:
        return len(self._spans)

    def record(
        self,
        trace_id: int,
        span_id: int,
        parent_id: int,
        name: str,
        start_ns: int,
        end_ns: int,
        attributes: Attributes = (),
        error: str = "",
    ) -> None:
        """Keep a finished span for export; `error` is empty when it went well."""
        spans = self._spans
        if len(spans) >= self._spans_len_max:
            self.dropped += 1
            return
        self.recorded += 1
        spans.append((trace_id, span_id, parent_id, name, start_ns, end_ns, attributes, error))

    def take(self, count: int) -> list[Span]:
        """Remove and return at most `count` spans, oldest first; safe from another thread."""
        popleft = self._spans.popleft
        return [popleft() for _ in range(min(count, len(self._spans)))]
