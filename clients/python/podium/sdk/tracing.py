"""Which span is current, and where finished spans go.

Where the program has set up OpenTelemetry itself, its tracer is used and spans go where it sends
them. Otherwise spans are recorded as tuples and sent to the suite by a thread.
"""

from __future__ import annotations

import contextvars
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from podium.sdk.otlp import Outlet, shared
from podium.sdk.settings import Settings
from podium.sdk.spans import (
    Attributes,
    Span,
    SpanBuffer,
    Value,
    format_traceparent,
    new_span_id,
    new_trace_id,
    parse_traceparent,
)

Ids = tuple[int, int]
"""Trace id and span id."""

_current: contextvars.ContextVar[Ids | None] = contextvars.ContextVar("podium_span", default=None)


class Tracer:
    """Records the spans of one client or host."""

    def __init__(self, service: str, settings: Settings) -> None:
        self._buffer: SpanBuffer | None = None
        self._outlet: Outlet | None = None
        if target := settings.span_target:
            self._outlet = (service, target, settings.metadata)

    def start(self) -> None:
        """Begins to send."""
        if self._outlet is not None and self._buffer is None:
            self._buffer = shared.acquire(self._outlet)

    def stop(self) -> None:
        """Sends what is left; blocks for a few seconds at most."""
        if self._outlet is not None and self._buffer is not None:
            self._buffer = None
            shared.release(self._outlet)

    def record(
        self,
        ids: Ids,
        parent_id: int,
        name: str,
        start_ns: int,
        attributes: Attributes = (),
        error: str = "",
    ) -> None:
        """Keeps a span that ends now."""
        if self._buffer is not None:
            trace_id, span_id = ids
            end_ns = time.time_ns()
            self.keep((trace_id, span_id, parent_id, name, start_ns, end_ns, attributes, error))

    def keep(self, span: Span) -> None:
        """Keeps a span that has ended, here or in a process that works for this one."""
        if self._buffer is not None:
            self._buffer.record(span)

    @contextmanager
    def span(self, name: str, **attributes: Value) -> Iterator[str]:
        """Times a block as a span below the current one and yields its traceparent."""
        program = program_tracer()
        if program is not None:
            with program.start_as_current_span(name, attributes=attributes) as span:
                yield _traceparent_of(span)
            return
        trace_id, parent_id = _current.get() or (new_trace_id(), 0)
        ids = (trace_id, new_span_id())
        start_ns = time.time_ns()
        token = _current.set(ids)
        failure = ""
        try:
            yield format_traceparent(*ids)
        except BaseException as error:
            failure = str(error) or type(error).__name__
            raise
        finally:
            _current.reset(token)
            self.record(ids, parent_id, name, start_ns, tuple(attributes.items()), failure)


def child_of(traceparent: str) -> tuple[Ids, int]:
    """Returns ids for a span below `traceparent`, and the parent's; a root where it is none."""
    parent = parse_traceparent(traceparent)
    if parent is None:
        return (new_trace_id(), new_span_id()), 0
    return (parent[0], new_span_id()), parent[1]


def set_current(ids: Ids) -> None:
    """Makes a span the current one of this asyncio task."""
    _current.set(ids)


def below_current() -> tuple[Ids, int]:
    """Returns ids for a span below the current one, and that one's id; a root where none is."""
    current = _current.get() or _program_ids()
    if current is None:
        return (new_trace_id(), new_span_id()), 0
    return (current[0], new_span_id()), current[1]


def program_tracer() -> Any:
    """Returns the tracer of the program's own OpenTelemetry set-up, or None."""
    # Who has set it up has imported it; nobody else pays for the import.
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return None
    return trace.get_tracer("podium")


@contextmanager
def program_span(tracer: Any, traceparent: str, attributes: Attributes) -> Iterator[str]:
    """Opens `execute` with the program's tracer below `traceparent`; yields its traceparent."""
    trace = sys.modules["opentelemetry.trace"]
    parent = parse_traceparent(traceparent)
    context = None
    if parent is not None:
        remote = trace.SpanContext(
            trace_id=parent[0],
            span_id=parent[1],
            is_remote=True,
            trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
        )
        context = trace.set_span_in_context(trace.NonRecordingSpan(remote))
    with tracer.start_as_current_span(
        "execute", context=context, attributes=dict(attributes)
    ) as span:
        yield _traceparent_of(span)


def _traceparent_of(span: Any) -> str:
    context = span.get_span_context()
    return format_traceparent(context.trace_id, context.span_id)


def _program_ids() -> Ids | None:
    if program_tracer() is None:
        return None
    context = sys.modules["opentelemetry.trace"].get_current_span().get_span_context()
    return (context.trace_id, context.span_id) if context.is_valid else None
