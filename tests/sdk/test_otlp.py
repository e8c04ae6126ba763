from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from podium.sdk.otlp import Encoder, Exporter, shared
from podium.sdk.spans import SPANS_LEN_MAX, Span, SpanBuffer
from tests.support.ports import free_port

SPAN: Span = (
    0xA1B2 << 100,
    0xC3 << 40,
    7,
    "execute",
    1_700_000_000_000_000_001,
    1_700_000_000_000_000_002,
    (("task.id", "t" * 200), ("n", -3), ("share", 0.5), ("good", True), ("bad", False)),
    "NO_LUCK: gr\u00fcn",
)


def test_spans_are_what_the_generated_classes_read() -> None:
    raw = Encoder("agent").request([SPAN, (1, 2, 0, "submit", 3, 4, (), "")])

    resource_spans = ExportTraceServiceRequest.FromString(raw).resource_spans[0]
    assert resource_spans.resource.attributes[0].value.string_value == "agent"
    first, second = resource_spans.scope_spans[0].spans
    assert first.trace_id == SPAN[0].to_bytes(16, "big")
    assert first.span_id == SPAN[1].to_bytes(8, "big")
    assert first.parent_span_id == (7).to_bytes(8, "big")
    assert (first.name, first.start_time_unix_nano, first.end_time_unix_nano) == (
        "execute",
        SPAN[4],
        SPAN[5],
    )
    values = {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in first.attributes}
    assert values == dict(SPAN[6])
    assert (first.status.code, first.status.message) == (Status.STATUS_CODE_ERROR, SPAN[7])
    assert (second.parent_span_id, second.status.code) == (b"", Status.STATUS_CODE_UNSET)


def test_what_was_encoded_before_is_not_taken_for_what_is_equal_to_it() -> None:
    encoder = Encoder("agent")
    spans: list[Span] = [(1, 2, 0, "execute", 3, 4, (("n", n),), "") for n in (1, True, 1.0, 1)]

    raw = encoder.request(spans)

    read = ExportTraceServiceRequest.FromString(raw).resource_spans[0].scope_spans[0].spans
    kinds = [span.attributes[0].value.WhichOneof("value") for span in read]
    assert kinds == ["int_value", "bool_value", "double_value", "int_value"]


class Sink(TraceServiceServicer):
    def __init__(self) -> None:
        self.names: list[str] = []

    def Export(self, request: ExportTraceServiceRequest, context: Any) -> Any:
        for resource_spans in request.resource_spans:
            for scope_spans in resource_spans.scope_spans:
                self.names += [span.name for span in scope_spans.spans]
        return ExportTraceServiceResponse()


def test_stopping_sends_what_is_left() -> None:
    sink, buffer = Sink(), SpanBuffer()
    server = grpc.server(ThreadPoolExecutor(1))
    add_TraceServiceServicer_to_server(sink, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    exporter = Exporter(buffer, service="agent", target=f"127.0.0.1:{port}")
    exporter.start()
    for _ in range(3_000):
        buffer.record(SPAN)
    exporter.stop()
    server.stop(0).wait()

    assert len(sink.names) == exporter.exported == 3_000


def test_a_hundred_agents_of_a_process_share_one_thread() -> None:
    outlet = ("agent", f"127.0.0.1:{free_port()}", (("authorization", "Bearer x"),))
    before = threading.active_count()
    buffers = [shared.acquire(outlet) for _ in range(100)]

    assert all(buffer is buffers[0] for buffer in buffers)
    assert threading.active_count() - before <= 1
    other = shared.acquire((*outlet[:2], ()))
    assert other is not buffers[0], "who shows another token has another"
    shared.release((*outlet[:2], ()))
    for _ in buffers:
        shared.release(outlet)
    assert not any(thread.name == "podium-spans" for thread in threading.enumerate())


def test_an_endpoint_that_does_not_answer_costs_spans_and_nothing_else() -> None:
    buffer = SpanBuffer()
    exporter = Exporter(buffer, service="agent", target=f"127.0.0.1:{free_port()}")
    exporter.start()
    buffer.record(SPAN)
    exporter.stop()

    assert (exporter.exported, exporter.dropped) == (0, 1)


def test_a_full_buffer_drops_and_counts() -> None:
    buffer = SpanBuffer()
    for _ in range(SPANS_LEN_MAX + 5):
        buffer.record(SPAN)

    assert buffer.dropped == 5
    assert len(buffer.take(SPANS_LEN_MAX * 2)) == SPANS_LEN_MAX
