"""Which spans belong to a task, and in which order they are told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from services.kernel.errors import NotFound

spans_len_max = 5_000
"""Spans of one trace that are told: the earliest."""

task_attribute = "task.id"


class Span(NamedTuple):
    """One timed step."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""
    parent_span_id: str
    """Empty for a root."""
    name: str
    service: str
    start_ns: int
    duration_ns: int
    attributes: Mapping[str, str]
    error: str = ""


def joined(kept: Sequence[Span], legs: Iterable[Span]) -> list[Span]:
    """Return the spans that were exported and the legs read off the log.

    A service of an older version exports its legs itself; these are not told twice.
    """
    told = {(span.service, span.name, span.attributes.get(task_attribute)) for span in kept}
    news = (
        leg for leg in legs if (leg.service, leg.name, leg.attributes[task_attribute]) not in told
    )
    return [*kept, *news]


def tasks_of(spans: Iterable[Span]) -> list[str]:
    """Return the tasks that spans are about, each once, the earliest first."""
    ordered = sorted(spans, key=lambda span: span.start_ns)
    named = (span.attributes.get(task_attribute, "") for span in ordered)
    return list(dict.fromkeys(filter(None, named)))


class Trace(NamedTuple):
    """A trace, or the part of it that is about one task."""

    trace_id: str
    spans: list[Span]


def whole(trace_id: str, spans: Iterable[Span]) -> Trace:
    """Return the trace.

    Raises:
        NotFound: TRACE_NOT_FOUND, none of its spans is kept.
    """
    # By id, since an exporter that heard no answer sends a batch again.
    told = {span.span_id: span for span in spans if span.trace_id == trace_id}
    if not told:
        raise _not_found("trace_id", trace_id)
    ordered = sorted(told.values(), key=lambda span: (span.start_ns, -span.duration_ns))
    return Trace(trace_id, ordered[:spans_len_max])


def of_task(task_id: str, spans: Iterable[Span]) -> Trace:
    """Return what the trace holds about a task.

    A client may submit many tasks in one trace of its own: those spans that are about another task,
    and what lies beneath them, are left out.

    Raises:
        NotFound: TRACE_NOT_FOUND, no span about the task is kept.
    """
    known = list(spans)
    own = next((span for span in known if span.attributes.get(task_attribute) == task_id), None)
    if own is None:
        raise _not_found("task_id", task_id)
    trace = whole(own.trace_id, known)
    by_id = {span.span_id: span for span in trace.spans}
    about: dict[str, str] = {}
    for span in trace.spans:
        _about(span, by_id, about)
    return Trace(
        trace.trace_id, [span for span in trace.spans if about[span.span_id] in ("", task_id)]
    )


def _about(span: Span, by_id: Mapping[str, Span], about: dict[str, str]) -> None:
    """Find out which task a span is about: its own word, or else that of what it lies beneath."""
    chain: list[str] = []
    task = ""
    current: Span | None = span
    # A chain that leads back to itself, which only a broken exporter makes, ends where it closes.
    while current is not None and current.span_id not in chain:
        if current.span_id in about:
            task = about[current.span_id]
            break
        chain.append(current.span_id)
        task = current.attributes.get(task_attribute, "")
        if task:
            break
        current = by_id.get(current.parent_span_id)
    for span_id in chain:
        about[span_id] = task


def _not_found(field: str, value: str) -> NotFound:
    return NotFound(
        "TRACE_NOT_FOUND",
        f"No span of {value} is kept: it is not traced, too old, or not here yet.",
        metadata={field: value},
    )
