"""Spans to OTLP over gRPC: encoded by hand, since the generated classes cost three times that."""

from __future__ import annotations

import logging
import struct
import threading
from collections.abc import Iterable

import grpc

from podium.sdk.spans import Span, SpanBuffer, Value
from podium.sdk.wire import CHANNEL_OPTIONS

log = logging.getLogger("podium.sdk.otlp")

EXPORT_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
BATCH_LEN_MAX = 2_048
INTERVAL_S = 0.2
EXPORT_S_MAX = 2.0
FLUSH_S_MAX = 3.0

_TIMES = struct.Struct("<BQBQ").pack
_DOUBLE = struct.Struct("<d").pack


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(tag: int, body: bytes) -> bytes:
    return bytes((tag,)) + _varint(len(body)) + body


def _value(value: Value) -> bytes:
    if isinstance(value, str):
        return _field(0x0A, value.encode("utf-8", "replace"))
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        return b"\x18" + _varint(value & 0xFFFFFFFFFFFFFFFF)
    return b"\x21" + _DOUBLE(value)


def _key_value(tag: int, key: str, value: Value) -> bytes:
    name = _field(0x0A, key.encode("utf-8", "replace"))
    return _field(tag, name + _field(0x12, _value(value)))


def encode_span(span: Span) -> bytes:
    """Returns one opentelemetry.proto.trace.v1.Span."""
    trace_id, span_id, parent_id, name, start_ns, end_ns, attributes, error = span
    parts = [
        b"\x0a\x10" + trace_id.to_bytes(16, "big") + b"\x12\x08" + span_id.to_bytes(8, "big"),
        b"\x22\x08" + parent_id.to_bytes(8, "big") if parent_id else b"",
        _field(0x2A, name.encode("utf-8", "replace")),
        b"\x30\x01",  # kind INTERNAL
        _TIMES(0x39, start_ns, 0x41, end_ns),
    ]
    parts += [_key_value(0x4A, key, value) for key, value in attributes]
    if error:
        parts.append(_field(0x7A, _field(0x12, error.encode("utf-8", "replace")) + b"\x18\x02"))
    return b"".join(parts)


def encode_request(service: str, spans: Iterable[Span]) -> bytes:
    """Returns an ExportTraceServiceRequest with the spans of one service."""
    resource = _field(0x0A, _key_value(0x0A, "service.name", service))
    scope = _field(0x0A, _field(0x0A, b"podium"))
    body = scope + b"".join(_field(0x12, encode_span(span)) for span in spans)
    return _field(0x0A, resource + _field(0x12, body))


class Exporter:
    """A thread that sends what a buffer holds, in batches.

    An endpoint that does not answer costs spans, which are counted, and never slows a task.
    """

    def __init__(
        self,
        buffer: SpanBuffer,
        *,
        service: str,
        target: str,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._buffer = buffer
        self._service = service
        self._target = target
        self._metadata = metadata
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="podium-spans", daemon=True)
        self._reachable = True
        self.exported = 0
        self.dropped = 0

    def start(self) -> None:
        """Begins to send."""
        self._thread.start()

    def stop(self) -> None:
        """Sends what is left and ends, within a few seconds; blocks."""
        self._stopping.set()
        self._thread.join(FLUSH_S_MAX)

    def _run(self) -> None:
        # A synchronous channel: it must not touch the loop that does the rest of gRPC.
        with grpc.insecure_channel(self._target, options=CHANNEL_OPTIONS) as channel:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(EXPORT_METHOD)
            while not self._stopping.wait(INTERVAL_S):
                self._flush(call)
            self._flush(call)

    def _flush(self, call: grpc.UnaryUnaryMultiCallable[bytes, bytes]) -> None:
        while spans := self._buffer.take(BATCH_LEN_MAX):
            try:
                request = encode_request(self._service, spans)
                call(request, timeout=EXPORT_S_MAX, metadata=self._metadata)
            except Exception as error:  # whatever goes wrong, tasks go on
                self.dropped += len(spans)
                if self._reachable:
                    why = error.code().name if isinstance(error, grpc.Call) else str(error)
                    log.info("spans cannot be sent to %s and are dropped: %s", self._target, why)
                self._reachable = False
                # What is left waits for the next round, unless there is none.
                return
            self.exported += len(spans)
            self._reachable = True


Outlet = tuple[str, str, tuple[tuple[str, str], ...]]
"""Service, target and metadata."""


class _Shared:
    """One exporter for all hosts and clients of the process whose spans go the same way.

    A thread and a connection for each of a hundred agents would cost more than their spans.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[Outlet, tuple[Exporter, SpanBuffer]] = {}
        self._users: dict[Outlet, int] = {}

    def acquire(self, outlet: Outlet) -> SpanBuffer:
        """Returns the buffer whose spans go there."""
        with self._lock:
            self._users[outlet] = self._users.get(outlet, 0) + 1
            if outlet not in self._running:
                service, target, metadata = outlet
                buffer = SpanBuffer()
                exporter = Exporter(buffer, service=service, target=target, metadata=metadata)
                exporter.start()
                self._running[outlet] = (exporter, buffer)
            return self._running[outlet][1]

    def release(self, outlet: Outlet) -> None:
        """Gives it back; for the last user, sends what is left, and blocks meanwhile."""
        with self._lock:
            self._users[outlet] -= 1
            if self._users[outlet]:
                return
            del self._users[outlet]
            exporter, _ = self._running.pop(outlet)
        exporter.stop()


shared = _Shared()
