from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from podium.sdk import tracing
from podium.sdk.settings import Settings
from podium.sdk.spans import Span, SpanBuffer, format_traceparent, parse_traceparent
from podium.sdk.tracing import Tracer

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def tracer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tracer]:
    """A tracer whose spans nobody sends, so that they stay to be looked at."""
    monkeypatch.setattr(tracing.shared, "acquire", lambda outlet: SpanBuffer())
    tracer = Tracer("agent", Settings())
    tracer.start()
    yield tracer


def spans_of(tracer: Tracer) -> list[Span]:
    return tracer._buffer.take(100) if tracer._buffer is not None else []


def test_traceparents_are_read_and_written() -> None:
    ids = parse_traceparent(PARENT)

    assert ids == (0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331)
    assert format_traceparent(*ids) == PARENT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        PARENT.replace("-", "_"),
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        "00-zzf7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ],
)
def test_what_is_no_traceparent_begins_a_trace(text: str) -> None:
    assert parse_traceparent(text) is None
    (trace_id, span_id), parent_id = tracing.child_of(text)
    assert trace_id and span_id and not parent_id


def test_spans_nest(tracer: Tracer) -> None:
    with tracer.span("outer", step=1) as outer, tracer.span("inner") as inner:
        assert tracing.below_current()[0][0] == int(outer[3:35], 16)

    first, second = spans_of(tracer)
    assert (first[3], second[3]) == ("inner", "outer")
    assert first[0] == second[0]
    assert first[2] == second[1] == int(outer[36:52], 16)
    assert first[1] == int(inner[36:52], 16)
    assert second[6] == (("step", 1),)


def test_a_span_tells_what_was_raised_in_it(tracer: Tracer) -> None:
    with pytest.raises(ValueError), tracer.span("risky"):
        raise ValueError("no good")

    assert spans_of(tracer)[0][7] == "no good"


def test_spans_can_be_sent_nowhere() -> None:
    tracer = Tracer("agent", Settings(otlp_endpoint="off"))
    tracer.start()
    tracer.record((1, 2), 0, "execute", 3)

    assert not spans_of(tracer)
    tracer.stop()


def test_the_programs_own_opentelemetry_is_used_where_there_is_one(
    tracer: Tracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry import trace  # noqa: PLC0415 - the other tests run without it
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - as above
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: PLC0415 - as above
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import (  # noqa: PLC0415 - as above
        InMemorySpanExporter,
    )

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    assert tracing.program_tracer() is None
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    own: Any = tracing.program_tracer()
    with tracing.program_span(own, PARENT, (("task.id", "t1"),)) as execute, tracer.span("mine"):
        below, parent_id = tracing.below_current()

    inner, outer = exporter.get_finished_spans()
    assert outer.name == "execute"
    assert outer.parent is not None and outer.parent.span_id == 0xB7AD6B7169203331
    assert inner.parent is not None and inner.parent.span_id == int(execute[36:52], 16)
    assert below[0] == 0x0AF7651916CD43DD8448EB211C80319C
    assert inner.context is not None and parent_id == inner.context.span_id
    assert not spans_of(tracer)
