"""Spans to OTLP: encoded by hand (5 us a span; the generated classes take three times that)."""

from __future__ import annotations

import logging
import struct
import threading
from collections.abc import Callable, Iterable

import grpc

from services.kernel.options import channel_options
from services.kernel.spans import Span, Tracer, Value

log = logging.getLogger("podium.kernel.otlp")

export_method = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
batch_len_max = 2_048
attributes_len_max = 4_096
interval_s = 0.2
export_s_max = 2.0
tries_max = 3
flush_s_max = 3.0

_TIMES = struct.Struct("<BQBQ").pack
_DOUBLE = struct.Struct("<d").pack
_STATUS_ERROR = b"\x18\x02"

Token = Callable[[], str]
Send = Callable[[bytes], None]
"""Delivers one encoded request or raises."""


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
    size = len(body)
    if size < 0x80:
        return b"%c%c%b" % (tag, size, body)
    return bytes((tag,)) + _varint(size) + body


def _value(value: Value) -> bytes:
    """Return an AnyValue."""
    if isinstance(value, str):
        return _field(0x0A, value.encode("utf-8", "replace"))
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        return b"\x18" + _varint(value & 0xFFFFFFFFFFFFFFFF)
    return b"\x21" + _DOUBLE(value)


class Encoder:
    """Encodes spans of one service as ExportTraceServiceRequest."""

    def __init__(self, service_name: str) -> None:
        attribute = self._attribute(0x0A, "service.name", service_name)
        self._resource = _field(0x0A, attribute)
        self._scope = _field(0x0A, _field(0x0A, b"podium"))
        # Names are constants of the code, so they stay few.
        self._names: dict[str, bytes] = {}
        self._attributes: dict[tuple[str, Value, type], bytes] = {}

    def request(self, spans: Iterable[Span]) -> bytes:
        """Return the bytes of one request holding `spans`."""
        encoded = [self._span(span) for span in spans]
        parts = [b"\x12" + _varint(len(body)) + body for body in encoded]
        scope_spans = self._scope + b"".join(parts)
        return _field(0x0A, self._resource + _field(0x12, scope_spans))

    def _span(self, span: Span) -> bytes:
        trace_id, span_id, parent_id, name, start_ns, end_ns, attributes, error = span
        named = self._names.get(name)
        if named is None:
            # Kind is INTERNAL (1).
            named = _field(0x2A, name.encode("utf-8", "replace")) + b"\x30\x01"
            if len(self._names) < 256:
                self._names[name] = named
        parts = [
            b"\x0a\x10%b\x12\x08%b" % (trace_id.to_bytes(16, "big"), span_id.to_bytes(8, "big")),
            b"\x22\x08" + parent_id.to_bytes(8, "big") if parent_id else b"",
            named,
            _TIMES(0x39, start_ns, 0x41, end_ns),
        ]
        known = self._attributes
        for key, value in attributes:
            # Types, agents and policies come again and again; a task's id comes a few times.
            # The class is part of it since 1, 1.0 and True are equal.
            attribute = (key, value, value.__class__)
            body = known.get(attribute)
            if body is None:
                if len(known) >= attributes_len_max:
                    known.clear()
                body = known[attribute] = self._attribute(0x4A, key, value)
            parts.append(body)
        if error:
            message = _field(0x12, error.encode("utf-8", "replace"))
            parts.append(_field(0x7A, message + _STATUS_ERROR))
        return b"".join(parts)

    @staticmethod
    def _attribute(tag: int, key: str, value: Value) -> bytes:
        return _field(tag, _field(0x0A, key.encode()) + _field(0x12, _value(value)))


def sender(endpoint: str, token: Token | None = None) -> tuple[Send, Callable[[], None]]:
    """Return a function that exports to `endpoint`, and one that closes it.

    A synchronous channel, since it lives in the exporter's thread and must not wake the loop.

    Args:
        endpoint: Where to.
        token: Returns the bearer token to show there, where callers are checked.
    """
    channel = grpc.insecure_channel(endpoint, options=channel_options())
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(export_method)

    def send(request: bytes) -> None:
        metadata = None if token is None else (("authorization", f"Bearer {token()}"),)
        call(request, timeout=export_s_max, metadata=metadata)

    return send, channel.close


class Exporter:
    """A thread that takes spans from a tracer and sends them in batches.

    When the endpoint is down a batch is tried a few times and then dropped and counted: tracing
    may lose spans and never slows a task.
    """

    def __init__(self, tracer: Tracer, encoder: Encoder, send: Send) -> None:
        self._tracer = tracer
        self._encoder = encoder
        self._send = send
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._reachable = True
        self.exported = 0
        self.dropped = 0

    def start(self) -> None:
        """Begin to export."""
        self._thread.start()

    def stop(self) -> None:
        """Export what is left and end, within a few seconds; blocks."""
        self._stopping.set()
        self._thread.join(flush_s_max)

    def _run(self) -> None:
        while not self._stopping.wait(interval_s):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        while spans := self._tracer.take(batch_len_max):
            if self._deliver(self._encoder.request(spans)):
                self.exported += len(spans)
            else:
                self.dropped += len(spans)

    def _deliver(self, request: bytes) -> bool:
        # Once the endpoint is known to be down, one try a batch: the buffer must keep draining.
        for attempt in range(tries_max if self._reachable else 1):
            if attempt and self._stopping.wait(interval_s * 2**attempt):
                break
            try:
                self._send(request)
            # Whatever goes wrong in here must not end the thread.
            except Exception as error:
                failure = error
                continue
            if not self._reachable:
                log.info("Spans are exported again.")
            self._reachable = True
            return True
        if self._reachable:
            code = failure.code().name if isinstance(failure, grpc.Call) else repr(failure)
            log.warning("Spans cannot be exported and are dropped.", extra={"code": code})
        self._reachable = False
        return False
