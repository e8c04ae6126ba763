"""AnalyticsService and the OTLP TraceService on the wire: messages to the core and back."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import NamedTuple

from google.protobuf.duration_pb2 import Duration
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from podium.v1 import analytics_pb2 as pb
from podium.v1.analytics_pb2_grpc import AnalyticsServiceServicer
from services.analytics.core.histogram import Summary
from services.analytics.core.trace import Span, Trace, joined, of_task, tasks_of, whole
from services.analytics.core.windows import Row, View, lengths_ms, windows_len_max
from services.analytics.ports import LegSource, SpanStore, WindowFeed
from services.kernel import limits
from services.kernel.errors import InvalidArgument, Unavailable
from services.kernel.rpc import Context
from services.kernel.rules import Checker

windows_len_default = 60
update_s_default = 1.0
update_s_min = 0.1
update_s_max = 3_600.0
agent_ids_len_max = 64
trace_tasks_len_max = 64

response_bytes_max = limits.message_bytes_max * 3 // 4
"""Leaves room for what wraps it."""

NAME = "podium.v1.AnalyticsService"
OTLP_NAME = "opentelemetry.proto.collector.trace.v1.TraceService"

POLICY = {
    f"/{NAME}/QueryWindows": "reader",
    f"/{NAME}/WatchWindows": "reader",
    f"/{NAME}/GetTrace": "reader",
    f"/{OTLP_NAME}/Export": "agent",
}

_TRACE_ID = re.compile(r"[0-9a-f]{32}").fullmatch


class AnalyticsServicer(AnalyticsServiceServicer):
    """Answers from the windows, the kept spans and the log."""

    def __init__(self, feed: WindowFeed, spans: SpanStore, legs: LegSource) -> None:
        self._feed = feed
        self._legs = legs
        self._spans = spans

    async def QueryWindows(
        self, request: pb.QueryWindowsRequest, context: Context
    ) -> pb.QueryWindowsResponse:
        """Return the newest windows."""
        length_ms = _length_ms(request.window)
        count = _count(request.count) or windows_len_default
        return pb.QueryWindowsResponse(windows=_windows(self._feed.newest(length_ms, count)))

    async def WatchWindows(
        self, request: pb.WatchWindowsRequest, context: Context
    ) -> AsyncIterator[pb.WatchWindowsResponse]:
        """Stream windows as they grow and close."""
        length_ms = _length_ms(request.window)
        count = _count(request.count) or 1
        interval_s = update_s_default
        if request.HasField("update_interval"):
            checker = Checker()
            checker.duration("update_interval", request.update_interval, 0.0, update_s_max)
            checker.done()
            asked_s = request.update_interval.ToNanoseconds() / 1e9
            interval_s = max(asked_s or update_s_default, update_s_min)
        chosen = _chosen(request)
        rows = chosen.types or chosen.agents
        async for views in self._feed.updates(length_ms, count, interval_s, rows=rows):
            told = [chosen.of(view) for view in views]
            yield pb.WatchWindowsResponse(windows=_windows(told))
        raise Unavailable(
            "DRAINING", "Analytics is stopping: open the watch again.", retry_after_s=0.5
        )

    async def GetTrace(self, request: pb.GetTraceRequest, context: Context) -> pb.GetTraceResponse:
        """Return the spans of a task or of a trace."""
        checker = Checker()
        one = bool(request.task_id) != bool(request.trace_id)
        checker.require("task_id", one, "must be given, or trace_id, and not both")
        checker.key("task_id", request.task_id, optional=True)
        if request.trace_id:
            formed = _TRACE_ID(request.trace_id.lower()) is not None
            checker.require("trace_id", formed, "must be 32 hexadecimal digits")
        checker.done()
        if request.task_id:
            task_id = request.task_id
            kept = await self._spans.of_task(task_id)
            trace = of_task(task_id, joined(kept, await self._legs.of_task(task_id)))
        else:
            trace_id = request.trace_id.lower()
            kept = await self._spans.of_trace(trace_id)
            # Of a trace of very many tasks the first are told whole.
            about = tasks_of(kept)[:trace_tasks_len_max]
            legs = [leg for task_id in about for leg in await self._legs.of_task(task_id)]
            trace = whole(trace_id, joined(kept, legs))
        return _trace(trace)


class TraceSink:
    """The OpenTelemetry TraceService: takes spans from any OTLP exporter.

    It has requests as bytes: they are kept as they came and decoded when somebody looks.
    """

    def __init__(self, spans: SpanStore) -> None:
        self._spans = spans

    async def export(self, request: bytes, context: Context) -> ExportTraceServiceResponse:
        """Keep the spans of a request."""
        self._spans.add(request)
        return _EXPORTED

    @staticmethod
    def checked(raw: bytes) -> bytes:
        """Return `raw` if it can be decoded; a quarter of a microsecond a span."""
        ExportTraceServiceRequest.FromString(raw)
        return raw


_EXPORTED = ExportTraceServiceResponse()


def _length_ms(window: Duration) -> int:
    length_ms = window.seconds * 1_000 + window.nanos / 1e6
    for known_ms in lengths_ms:
        if length_ms == known_ms:
            return known_ms
    known = " or ".join(f"{known_ms // 1_000} s" for known_ms in lengths_ms)
    raise InvalidArgument(
        "WINDOW_UNKNOWN", f"window must be {known}.", metadata={"window_ms": f"{length_ms:g}"}
    )


def _count(count: int) -> int:
    checker = Checker()
    checker.integer("count", count, 0, windows_len_max)
    checker.done()
    return count


class _Chosen(NamedTuple):
    """The rows that a watcher wants beside the total."""

    types: bool
    agents: bool
    agent_ids: frozenset[str]
    """Of these agents only; empty for all."""

    def of(self, view: View) -> View:
        """Return a window with these rows."""
        agents: tuple[Row, ...] = view.agents if self.agents else ()
        if self.agent_ids:
            agents = tuple(row for row in agents if row.key in self.agent_ids)
        return view._replace(types=view.types if self.types else (), agents=agents)


def _chosen(request: pb.WatchWindowsRequest) -> _Chosen:
    checker = Checker()
    checker.length("agent_ids", len(request.agent_ids), agent_ids_len_max)
    for index, agent_id in enumerate(request.agent_ids[:agent_ids_len_max]):
        checker.identifier(f"agent_ids[{index}]", agent_id)
    checker.done()
    return _Chosen(not request.omit_types, not request.omit_agents, frozenset(request.agent_ids))


def _windows(views: Sequence[View]) -> list[pb.Window]:
    """Return the windows as messages that fit into one response.

    What does not fit is told without agents, then without types, the oldest first.
    """
    windows: list[pb.Window] = []
    room = response_bytes_max
    for view in reversed(views):
        window = _window(view)
        for rest in ("agents", "types"):
            if window.ByteSize() <= room:
                break
            window.ClearField(rest)
        room -= window.ByteSize() + 8
        windows.append(window)
    return windows[::-1]


def _window(view: View) -> pb.Window:
    window = pb.Window(
        length=_duration(view.length_ms / 1e3),
        closed=view.closed,
        total=_statistics(view.total),
        types=_rows(view.types),
        agents=_rows(view.agents),
        late_count=view.late_count,
    )
    window.start_time.FromMilliseconds(view.start_ms)
    return window


def _rows(rows: Iterable[Row]) -> list[pb.WindowStatistics]:
    return [_statistics(row) for row in rows]


def _statistics(row: Row) -> pb.WindowStatistics:
    submitted, started, completed, failed, attempt_failed, retried, canceled = row.counts
    total, assignment, run = row.latencies
    return pb.WindowStatistics(
        key=row.key,
        submitted_count=submitted,
        started_count=started,
        completed_count=completed,
        failed_count=failed,
        attempt_failed_count=attempt_failed,
        retried_count=retried,
        canceled_count=canceled,
        total_latency=_summary(total),
        assignment_latency=_summary(assignment),
        run_latency=_summary(run),
    )


def _summary(summary: Summary) -> pb.LatencySummary | None:
    if not summary.times:
        return None
    return pb.LatencySummary(
        count=summary.times,
        p50=_duration(summary.p50_s),
        p95=_duration(summary.p95_s),
        p99=_duration(summary.p99_s),
        max=_duration(summary.max_s),
        mean=_duration(summary.mean_s),
    )


def _duration(seconds: float) -> Duration:
    whole_s, nanos = divmod(round(seconds * 1e9), 1_000_000_000)
    return Duration(seconds=whole_s, nanos=nanos)


def _trace(trace: Trace) -> pb.GetTraceResponse:
    response = pb.GetTraceResponse(trace_id=trace.trace_id)
    room = response_bytes_max
    for span in trace.spans:
        message = _span(span)
        room -= message.ByteSize() + 8
        if room < 0:
            break
        response.spans.append(message)
    return response


def _span(span: Span) -> pb.Span:
    message = pb.Span(
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        name=span.name,
        service=span.service,
        attributes=span.attributes,
        error=span.error,
    )
    message.start_time.FromNanoseconds(span.start_ns)
    message.duration.FromNanoseconds(span.duration_ns)
    return message
