"""Runs Analytics: `python -m services.analytics`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from podium.v1.analytics_pb2_grpc import add_AnalyticsServiceServicer_to_server
from services.analytics.adapters.events import EventLog, Reader
from services.analytics.adapters.history import LogHistory
from services.analytics.adapters.legs import SERVICES, TYPES, Collected
from services.analytics.adapters.sqlite import SqliteSpans
from services.analytics.config import Settings
from services.analytics.loops import Growth
from services.analytics.servicer import NAME, OTLP_NAME, POLICY, AnalyticsServicer, TraceSink
from services.kernel import names, telemetry
from services.kernel.clock import Clock
from services.kernel.config import where
from services.kernel.follow import Follower
from services.kernel.metrics import Metrics
from services.kernel.serving import Assembled, Dial, ServiceSpec, main


@asynccontextmanager
async def assemble(settings: Settings, dial: Dial, clock: Clock) -> AsyncIterator[Assembled]:
    """Put Analytics together; it counts until the block ends."""
    spans = SqliteSpans(
        settings.data_dir / "spans.db",
        spans_len_max=settings.spans_len_max,
        bytes_max=settings.spans_bytes_max,
    )
    channel = dial(settings.task_scheduler_address)
    # A collector gets what services do from here: of itself none exports it.
    others, more = (SERVICES, TYPES) if settings.collector else ((), ())
    async with telemetry.started("analytics", settings, others=others) as observed:
        collected = None
        if others:
            collected = Collected(observed.tracers, clock.now().wall_ms).take
        reader = Reader(collected)
        follower = Follower(
            f"The event log of TaskScheduler at {where(settings, 'task_scheduler_address')}",
            EventLog(channel, more).open,
            reader.take,
            reader.begin_anew,
            clock=clock,
        )
        growth = Growth(lambda: reader.windows, lambda: follower.at_end, clock)
        servicer = AnalyticsServicer(growth, spans, LogHistory(channel))
        sink = TraceSink(spans)

        def register(server: grpc.aio.Server) -> None:
            add_AnalyticsServiceServicer_to_server(servicer, server)
            server.add_generic_rpc_handlers((_otlp(sink),))

        def ready() -> str:
            # Once: what was counted stays of use, and spans are taken, while the log is away.
            return "" if follower.caught_up else follower.trouble or "the event log is being read"

        _measure(observed.metrics, reader, spans)
        loops = [asyncio.create_task(follower.run()), asyncio.create_task(growth.run())]
        try:
            yield Assembled(
                register=register,
                service_names=(NAME, OTLP_NAME),
                ready=ready,
                drain=growth.drain,
                telemetry=observed,
                policy=POLICY,
                loops=loops,
            )
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            await channel.close()
            await spans.close()


def _otlp(sink: TraceSink) -> grpc.GenericRpcHandler:
    method = grpc.unary_unary_rpc_method_handler(
        sink.export,
        request_deserializer=sink.checked,
        response_serializer=ExportTraceServiceResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(OTLP_NAME, {"Export": method})


def _measure(metrics: Metrics, reader: Reader, spans: SqliteSpans) -> None:
    metrics.read_counter(
        names.metric_windows, "Windows closed.", lambda: reader.windows.closed_count
    )
    metrics.read_counter(
        names.metric_events_late,
        "Events that came after their window had closed.",
        lambda: reader.windows.late_count,
    )
    metrics.read_gauge(names.metric_spans_kept, "Spans kept.", lambda: spans.spans_len)
    metrics.read_counter(
        names.metric_spans_refused,
        "Spans turned away because too many came at once.",
        lambda: spans.dropped,
    )


SERVICE = ServiceSpec(
    name="analytics",
    settings=Settings,
    summary="Analytics: counts the event log in windows, keeps recent spans and tells traces.",
    assemble=assemble,
)

if __name__ == "__main__":
    sys.exit(main(SERVICE))
