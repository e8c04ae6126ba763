from __future__ import annotations

import logging
import threading

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.kernel import otlp
from services.kernel.otlp import Encoder, Exporter
from services.kernel.spans import Span, Tracer

SPAN: Span = (
    0x0AF7651916CD43DD8448EB211C80319C,
    0xB7AD6B7169203331,
    0x00F067AA0BA902B7,
    "route",
    1_700_000_000_000_000_001,
    1_700_000_000_000_000_999,
    (
        ("task.id", "t-1"),
        ("note", "Größe " + "x" * 300),
        ("task.attempt", 3),
        ("negative", -7),
        ("score", 0.25),
        ("explored", True),
        ("shadow", False),
    ),
    "agent lost",
)


def test_the_bytes_say_what_the_span_said() -> None:
    root = (1, 2, 0, "submit", 5, 6, (), "")
    encoded = Encoder("routing").request([SPAN, root])

    request = ExportTraceServiceRequest.FromString(encoded)

    [resource] = request.resource_spans
    [attribute] = resource.resource.attributes
    assert (attribute.key, attribute.value.string_value) == ("service.name", "routing")
    [scope] = resource.scope_spans
    first, second = scope.spans
    assert first.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert first.span_id.hex() == "b7ad6b7169203331"
    assert first.parent_span_id.hex() == "00f067aa0ba902b7"
    assert (first.name, first.kind) == ("route", 1)
    assert (first.start_time_unix_nano, first.end_time_unix_nano) == SPAN[4:6]
    values = {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in first.attributes}
    assert values == dict(SPAN[6])
    assert (first.status.code, first.status.message) == (2, "agent lost")
    assert second.parent_span_id == b"" and not second.HasField("status")
    # Nothing in it that the contract does not know.
    assert request.SerializeToString(deterministic=True) == encoded


def test_equal_values_of_different_types_keep_their_types() -> None:
    values = (1, True, 1.0)
    spans: list[Span] = [(1, 2, 0, "submit", 5, 6, (("n", value),), "") for value in values]

    request = ExportTraceServiceRequest.FromString(Encoder("routing").request(spans * 2))

    found = request.resource_spans[0].scope_spans[0].spans
    kinds = [span.attributes[0].value.WhichOneof("value") for span in found]
    assert kinds == ["int_value", "bool_value", "double_value"] * 2


def test_text_that_is_no_text_does_not_stop_a_batch() -> None:
    encoded = Encoder("x").request([(1, 2, 0, "\ud800", 1, 2, (("k", "\udfff"),), "\ud800")])

    assert ExportTraceServiceRequest.FromString(encoded)


def spans_in(request: bytes) -> int:
    parsed = ExportTraceServiceRequest.FromString(request)
    return len(parsed.resource_spans[0].scope_spans[0].spans)


def fill(tracer: Tracer, count: int) -> None:
    for number in range(count):
        tracer.record(1, number + 1, 0, "submit", 0, 1)


def test_spans_leave_in_batches_and_the_rest_at_the_end() -> None:
    tracer, requests = Tracer(), list[bytes]()
    exporter = Exporter(tracer, Encoder("x"), requests.append)
    fill(tracer, 5_000)
    exporter.start()
    exporter.stop()

    assert [spans_in(request) for request in requests] == [2_048, 2_048, 904]
    assert (exporter.exported, exporter.dropped) == (5_000, 0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "interval_s", 0.001)


@pytest.mark.usefixtures("quick")
def test_a_failed_batch_is_tried_again() -> None:
    tracer, delivered, failures = Tracer(), threading.Event(), [OSError(), OSError()]

    def send(request: bytes) -> None:
        if failures:
            raise failures.pop()
        delivered.set()

    exporter = Exporter(tracer, Encoder("x"), send)
    fill(tracer, 10)
    exporter.start()

    assert delivered.wait(5)
    exporter.stop()
    assert (exporter.exported, exporter.dropped) == (10, 0)


@pytest.mark.usefixtures("quick")
def test_when_nobody_takes_spans_they_are_dropped_counted_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tracer, tries = Tracer(), threading.Semaphore(0)

    def send(request: bytes) -> None:
        tries.release()
        raise OSError

    exporter = Exporter(tracer, Encoder("x"), send)
    fill(tracer, 10)
    with caplog.at_level(logging.INFO, "podium"):
        exporter.start()
        for _ in range(otlp.tries_max):
            assert tries.acquire(timeout=5)
        for _ in range(3):
            fill(tracer, 10)
            assert tries.acquire(timeout=5)
        exporter.stop()

    assert (exporter.exported, exporter.dropped) == (0, 40)
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1


def test_an_endpoint_that_is_not_there_ends_no_thread_and_stops_in_time() -> None:
    tracer = Tracer()
    send, close = otlp.sender("127.0.0.1:1")
    exporter = Exporter(tracer, Encoder("x"), send)
    fill(tracer, 1)
    exporter.start()
    exporter.stop()
    close()

    assert exporter.dropped == 1
