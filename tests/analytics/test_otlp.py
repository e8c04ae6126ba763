from __future__ import annotations

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Status, StatusCode

from services.analytics.adapters import otlp
from tests.analytics.traces import TRACE_ID, request


def sdk_request() -> tuple[bytes, str]:
    """Returns what OpenTelemetry's own SDK exports, and the trace's id."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "an agent"}))
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("agent", "1.0")
    with tracer.start_as_current_span("execute") as outer:
        outer.set_attributes({"task.id": "t-7", "tries": 3, "sure": 0.5, "warm": True})
        outer.set_attribute("words", ["one", "two"])
        outer.add_event("half way")
        with tracer.start_as_current_span("call") as inner:
            inner.set_status(Status(StatusCode.ERROR, "no answer"))
    trace_id = f"{outer.get_span_context().trace_id:032x}"
    provider.shutdown()
    return encode_spans(memory.get_finished_spans()).SerializeToString(), trace_id


def test_spans_of_the_sdk_are_understood() -> None:
    raw, trace_id = sdk_request()

    inner, outer = otlp.spans(raw)

    assert outer.trace_id == inner.trace_id == trace_id
    assert (outer.name, outer.service, outer.parent_span_id) == ("execute", "an agent", "")
    assert inner.parent_span_id == outer.span_id
    assert (inner.error, outer.error) == ("no answer", "")
    assert outer.attributes == {
        "task.id": "t-7",
        "tries": "3",
        "sure": "0.5",
        "warm": "true",
        "words": "one, two",
    }
    assert 0 <= inner.duration_ns <= outer.duration_ns


def test_traces_and_tasks_of_the_sdk_are_found_without_decoding() -> None:
    raw, trace_id = sdk_request()

    found = otlp.contents(raw)

    assert found.spans_len == 2
    assert otlp.trace_key(trace_id) in found.keys
    assert otlp.task_key("t-7") in found.keys
    assert otlp.task_key("t-8") not in found.keys


def test_podiums_own_requests_are_understood() -> None:
    raw = request("submit", "queue", attributes=(("score", 0.25),), error="it broke")

    submit, queue = otlp.spans(raw)
    found = otlp.contents(raw)

    assert (submit.trace_id, submit.service) == (TRACE_ID, "routing")
    assert submit.attributes == {"task.id": "t-1", "score": "0.25"}
    assert (queue.start_ns, queue.duration_ns, queue.error) == (1_001, 500, "it broke")
    assert found.spans_len == 2
    assert len(found.keys) == 2 * otlp.key_len


def test_keys_are_no_longer_than_what_they_stand_for() -> None:
    raw = b"".join(
        request("submit", "route", trace=number, task_id=f"t-{number}") for number in range(1, 201)
    )

    found = otlp.contents(raw)

    assert found.spans_len == 400
    assert len(found.keys) == 400 * otlp.key_len


def test_which_traces_are_about_a_task_is_decoded_exactly() -> None:
    raw = request("submit") + request("submit", trace=5, task_id="t-2")

    assert otlp.about(raw, "t-1") == {TRACE_ID}
    assert otlp.about(raw, "t") == set()


@pytest.mark.parametrize("task_id", ["a", "00-01a20735a5c2-0000000000", "x" * 64])
@pytest.mark.parametrize("others", [0, 1, 3])
def test_a_task_is_known_by_its_key_wherever_its_attribute_stands(
    task_id: str, others: int
) -> None:
    request = ExportTraceServiceRequest()
    span = (
        request.resource_spans.add()
        .scope_spans.add()
        .spans.add(trace_id=b"t" * 16, span_id=b"s" * 8)
    )
    span.attributes.add(key="task.id").value.string_value = task_id
    for number in range(others):
        span.attributes.add(key=f"more.{number}").value.string_value = "Jot"

    keys = otlp.contents(request.SerializeToString()).keys

    assert otlp.task_key(task_id) in keys
    assert len(keys) == 2 * otlp.key_len
