"""What a service has to be observed with: a tracer whose spans are exported, and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry

from services.kernel import names
from services.kernel.clock import SystemClock
from services.kernel.config import Common
from services.kernel.dialing import TokenFile
from services.kernel.metrics import Metrics
from services.kernel.otlp import Encoder, Exporter, Send, sender
from services.kernel.spans import (
    Attributes,
    Span,
    Tracer,
    format_traceparent,
    is_traceparent,
    new_span_id,
    new_trace_id,
    parse_traceparent,
)

__all__ = [
    "Attributes",
    "Metrics",
    "Span",
    "Telemetry",
    "Tracer",
    "format_traceparent",
    "is_traceparent",
    "new_span_id",
    "new_trace_id",
    "parse_traceparent",
    "started",
]


class Telemetry:
    """The tracer and the metrics of one service."""

    def __init__(self, others: Sequence[str] = ()) -> None:
        self.tracer = Tracer()
        self.tracers = {name: Tracer() for name in others}
        """Of other services, whose spans this one tells."""
        self.metrics = Metrics()

    @property
    def registry(self) -> CollectorRegistry:
        """The Prometheus registry of the service."""
        return self.metrics.registry


@asynccontextmanager
async def started(
    service: str, settings: Common, *, send: Send | None = None, others: Sequence[str] = ()
) -> AsyncIterator[Telemetry]:
    """Yield the telemetry of `service`, exporting spans until the end, when it flushes.

    Args:
        service: Name of the service, as it appears in traces.
        settings: Where spans go.
        send: Takes the encoded requests instead of the endpoint.
        others: Services whose spans it tells beside its own.
    """
    telemetry = Telemetry(others)
    close = None
    if send is None and settings.spans_endpoint:
        token = None
        # The suite's own token is for the suite alone, not for a collector of somebody else.
        if settings.auth_token_file and not settings.collector:
            token = TokenFile(Path(settings.auth_token_file), SystemClock()).read
        send, close = sender(settings.spans_endpoint, token)
    if send is None:
        # Nobody will ever take spans: keep none.
        telemetry.tracer = Tracer(spans_len_max=0)
        telemetry.tracers = {name: telemetry.tracer for name in others}
        yield telemetry
        return
    tracers = {service: telemetry.tracer, **telemetry.tracers}
    exporters = [Exporter(tracer, Encoder(name), send) for name, tracer in tracers.items()]
    telemetry.metrics.read_counter(
        names.metric_spans_exported,
        "Spans delivered.",
        lambda: sum(each.exported for each in exporters),
    )
    telemetry.metrics.read_counter(
        names.metric_spans_dropped,
        "Spans lost, because the buffer was full or nobody took them.",
        lambda: (
            sum(each.dropped for each in exporters) + sum(each.dropped for each in tracers.values())
        ),
    )
    for exporter in exporters:
        exporter.start()
    try:
        yield telemetry
    finally:
        await asyncio.gather(*(asyncio.to_thread(exporter.stop) for exporter in exporters))
        if close is not None:
            close()
