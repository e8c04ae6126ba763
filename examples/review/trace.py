"""A trace as a tree with times, for reading."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from podium.v1 import analytics_pb2

BAR_WIDTH = 24
# Attributes worth their place beside a span.
SHOWN = (
    "agent.id",
    "task.attempt",
    "task.outcome",
    "decision.policy",
    "decision.candidates",
)


@dataclass(frozen=True, slots=True)
class TraceLine:
    """One span as a line of the tree.

    Attributes:
        text: name, indented by its depth.
        after_s: when it began, counted from the beginning of the trace.
        duration_s: how long it took.
        bar: where it lies in the trace.
        note: attributes and the error.
    """

    text: str
    service: str
    after_s: float
    duration_s: float
    bar: str
    note: str
    failed: bool


def tree(spans: Sequence[analytics_pb2.Span]) -> list[TraceLine]:
    """Returns the spans as a tree; those whose parent is not there stand at its root."""
    if not spans:
        return []
    known = {span.span_id for span in spans}
    children: dict[str, list[analytics_pb2.Span]] = defaultdict(list)
    for span in spans:
        children[span.parent_span_id if span.parent_span_id in known else ""].append(span)
    begin_s = min(map(_begin_s, spans))
    length_s = max(max(_begin_s(span) + _length_s(span) for span in spans) - begin_s, 1e-6)

    def lines(parent: str, indent: str) -> Iterator[TraceLine]:
        siblings = sorted(children[parent], key=_begin_s)
        for index, span in enumerate(siblings):
            last = index == len(siblings) - 1
            branch = "" if parent == "" else "└─ " if last else "├─ "
            below = "" if parent == "" else "   " if last else "│  "
            after_s = _begin_s(span) - begin_s
            yield TraceLine(
                text=f"{indent}{branch}{span.name}",
                service=span.service,
                after_s=after_s,
                duration_s=_length_s(span),
                bar=_bar(after_s / length_s, _length_s(span) / length_s),
                note=_note(span),
                failed=bool(span.error),
            )
            yield from lines(span.span_id, indent + below)

    return list(lines("", ""))


def _begin_s(span: analytics_pb2.Span) -> float:
    return span.start_time.seconds + span.start_time.nanos / 1e9


def _length_s(span: analytics_pb2.Span) -> float:
    return span.duration.seconds + span.duration.nanos / 1e9


def _bar(begin: float, length: float) -> str:
    start = min(BAR_WIDTH - 1, max(0, int(begin * BAR_WIDTH)))
    width = max(1, min(BAR_WIDTH, round((begin + length) * BAR_WIDTH)) - start)
    return " " * start + "━" * width + " " * (BAR_WIDTH - start - width)


def _note(span: analytics_pb2.Span) -> str:
    told = [f"{name}={span.attributes[name]}" for name in SHOWN if name in span.attributes]
    if span.error:
        told.append(span.error)
    return " ".join(told)
