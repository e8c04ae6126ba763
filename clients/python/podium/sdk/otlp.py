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
NAMES_LEN_MAX = 256
ATTRIBUTES_LEN_MAX = 4_096
REMEMBERED_BYTES_MAX = 128

_TIMES = struct.Struct("<BQBQ").pack
_DOUBLE = struct.Struct("<d").pack


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
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


class Encoder:
    """Encodes spans of one service as ExportTraceServiceRequest."""

    def __init__(self, service: str) -> None:
        self._resource = _field(0x0A, _key_value(0x0A, "service.name", service))
        self._scope = _field(0x0A, _field(0x0A, b"podium"))
        self._names: dict[str, bytes] = {}
        self._attributes: dict[tuple[str, Value, type], bytes] = {}

    def request(self, spans: Iterable[Span]) -> bytes:
        """Returns one request with the spans."""
        parts = []
        for span in spans:
            body = self._span(span)
            parts.append(b"\x12" + _varint(len(body)) + body)
        return _field(0x0A, self._resource + _field(0x12, self._scope + b"".join(parts)))

    def _span(self, span: Span) -> bytes:
        trace_id, span_id, parent_id, name, start_ns, end_ns, attributes, error = span
        named = self._names.get(name)
        if named is None:
            # Kind is INTERNAL (1).
            named = _field(0x2A, name.encode("utf-8", "replace")) + b"\x30\x01"
            # Names that a program makes up may be many.
            if len(self._names) < NAMES_LEN_MAX:
                self._names[name] = named
        ids = b"\x0a\x10%b\x12\x08%b" % (trace_id.to_bytes(16, "big"), span_id.to_bytes(8, "big"))
        if parent_id:
            ids += b"\x22\x08" + parent_id.to_bytes(8, "big")
        parts = [ids, named, _TIMES(0x39, start_ns, 0x41, end_ns)]
        known = self._attributes
        for key, value in attributes:
            # Types and agents come again and again. The class is part of it: 1, 1.0 and True are
            # equal.
            attribute = (key, value, value.__class__)
            body = known.get(attribute)
            if body is None:
                body = _key_value(0x4A, key, value)
                # What is long is text of its own, and comes but once.
                if len(body) <= REMEMBERED_BYTES_MAX:
                    if len(known) >= ATTRIBUTES_LEN_MAX:
                        known.clear()
                    known[attribute] = body
            parts.append(body)
        if error:
            message = _field(0x12, error.encode("utf-8", "replace"))
            parts.append(_field(0x7A, message + b"\x18\x02"))
        return b"".join(parts)


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
        self._encoder = Encoder(service)
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
                request = self._encoder.request(spans)
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
