"""OTLP requests: what they are about without decoding them, and their spans.

At full rate tens of thousands of spans come in every second and hardly any is ever looked at. So a
request is kept as it came, beside short keys of the traces and tasks in it, which a regular
expression finds in a tenth of the time that decoding takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from services.analytics.core.trace import Span, task_attribute

key_len = 8

# Fields 1 and 2 of a span: trace id and span id. Serializers write fields in order, so they stand
# together; links match as well, which only makes a request look relevant that is not.
_TRACES: Callable[[bytes], list[bytes]] = re.compile(rb"\x0a\x10(.{16})\x12\x08", re.DOTALL).findall
# KeyValue{key: "task.id", value: AnyValue{string_value}}: the length of the text, and what follows.
_TASKS: Callable[[bytes], list[tuple[bytes, bytes]]] = re.compile(
    rb"\x0a\x07task\.id\x12.\x0a([\x01-\x40])(?=(.{1,64}))", re.DOTALL
).findall


class Contents(NamedTuple):
    """What a request is about."""

    spans_len: int
    keys: bytes
    """Keys of its traces and tasks, one after the other."""


def contents(request: bytes) -> Contents:
    """Return what `request` is about."""
    traces = _TRACES(request)
    keys = {trace[-key_len:] for trace in traces}
    keys.update(map(_key, {text[: length[0]] for length, text in _TASKS(request)}))
    return Contents(len(traces), b"".join(sorted(keys)))


def trace_key(trace_id: str) -> bytes:
    """Return the key of a trace: the end of its id, which is random in every id there is."""
    return bytes.fromhex(trace_id)[-key_len:]


def task_key(task_id: str) -> bytes:
    """Return the key of a task."""
    return _key(task_id.encode())


def _key(text: bytes) -> bytes:
    return blake2b(text, digest_size=key_len).digest()


def spans(request: bytes) -> Iterator[Span]:
    """Decode the spans of a request."""
    decoded = ExportTraceServiceRequest.FromString(request)
    for resource_spans in decoded.resource_spans:
        attributes = resource_spans.resource.attributes
        service = next((_text(a.value) for a in attributes if a.key == "service.name"), "")
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield _span(service, span)


def about(request: bytes, task_id: str) -> set[str]:
    """Return the traces in which `request` has a span about the task."""
    return {
        span.trace_id for span in spans(request) if span.attributes.get(task_attribute) == task_id
    }


def _span(service: str, span: OtlpSpan) -> Span:
    error = ""
    if span.status.code == Status.STATUS_CODE_ERROR:
        error = span.status.message or "failed"
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex(),
        name=span.name,
        service=service,
        start_ns=span.start_time_unix_nano,
        duration_ns=max(0, span.end_time_unix_nano - span.start_time_unix_nano),
        attributes={attribute.key: _text(attribute.value) for attribute in span.attributes},
        error=error,
    )


def _text(value: AnyValue) -> str:
    kind = value.WhichOneof("value")
    if kind is None:
        return ""
    if kind == "array_value":
        return ", ".join(_text(item) for item in value.array_value.values)
    if kind == "kvlist_value":
        return ", ".join(f"{item.key}={_text(item.value)}" for item in value.kvlist_value.values)
    plain = getattr(value, kind)
    if kind == "bytes_value":
        return str(plain.hex())
    if kind == "double_value":
        return f"{plain:g}"
    return str(plain).lower() if kind == "bool_value" else str(plain)
