from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from podium.v1 import analytics_pb2 as pb
from podium.v1.analytics_pb2_grpc import AnalyticsServiceStub
from services.analytics.__main__ import SERVICE
from services.analytics.servicer import NAME, POLICY, response_bytes_max
from services.kernel.clock import ManualClock
from services.kernel.config import load
from services.kernel.errors import PodiumError
from services.kernel.options import dial
from services.kernel.otlp import export_method
from services.kernel.rpc import from_rpc_error
from services.kernel.serving import running
from tests.analytics.test_legs import whole
from tests.analytics.traces import TRACE_ID, request
from tests.kernel.test_telemetry import collecting
from tests.support.eventlog import BEGIN_MS, LogServicer, completed, event, served_log
from tests.support.waiting import eventually


@dataclass
class Served:
    """Analytics over a log, at the beginning of a window."""

    log: LogServicer
    clock: ManualClock
    channel: grpc.aio.Channel
    port: int
    ready: Any

    @property
    def stub(self) -> AnalyticsServiceStub:
        return AnalyticsServiceStub(self.channel)

    async def export(self, raw: bytes) -> bytes:
        """Exports spans as an exporter does."""
        answer: bytes = await self.channel.unary_unary(export_method)(raw)
        return answer

    async def windows(self, seconds: int = 10, count: int = 0) -> list[pb.Window]:
        """Returns the windows of a length."""
        asked = pb.QueryWindowsRequest(count=count)
        asked.window.seconds = seconds
        return list((await self.stub.QueryWindows(asked)).windows)

    async def counted(self, event_count: int) -> list[pb.Window]:
        """Returns the windows once so many tasks are completed in them."""

        async def there() -> list[pb.Window] | None:
            windows = await self.windows()
            done = sum(window.total.completed_count for window in windows)
            return windows if done == event_count else None

        windows = await eventually(there)
        assert windows is not None
        return windows


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with served_log() as (log, address):
        environ = {
            "PODIUM_DATA_DIR": str(tmp_path),
            "PODIUM_OTLP_ENDPOINT": "off",
            "PODIUM_TASK_SCHEDULER_ADDRESS": address,
        }
        clock = ManualClock(wall_ms=BEGIN_MS)
        settings = load(SERVICE.settings, environ)
        async with running(SERVICE, settings, dial=dial, clock=clock) as service:
            async with dial(f"127.0.0.1:{service.port}") as channel:
                yield Served(log, clock, channel, service.port, service.assembled.ready)


async def refused(call: Any) -> PodiumError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


async def test_windows_are_counted_from_the_log(served: Served) -> None:
    served.log.append(
        event("CREATED", at_s=1.0), completed("a", run_s=0.5, at_s=2.0), completed("b", at_s=11.0)
    )

    first, second = await served.counted(2)

    assert first.start_time.ToMilliseconds() == BEGIN_MS
    assert first.length.seconds == 10
    assert (first.total.submitted_count, first.total.completed_count) == (1, 1)
    assert first.total.run_latency.max.ToMilliseconds() == 500
    assert not first.total.HasField("assignment_latency")
    assert [row.key for row in first.types] == ["words"]
    assert [row.key for row in second.agents] == ["b"]
    (long,) = await served.windows(300)
    assert long.total.completed_count == 2


async def test_it_is_ready_once_the_log_is_read_and_stays_so(served: Served) -> None:
    await eventually(lambda: served.ready() == "")
    served.log.break_off()
    await eventually(lambda: len(served.log.watches) == 1)

    assert served.ready() == ""


async def test_after_a_break_each_event_is_still_counted_once(served: Served) -> None:
    served.log.append(completed("a"))
    await served.counted(1)
    served.log.break_off()
    served.log.append(completed("a"))

    async def again() -> bool:
        await served.clock.advance(0.5)
        return len(served.log.watches) == 2

    await eventually(again)
    await served.counted(2)
    assert served.log.watches == ["", "1"]


@pytest.mark.parametrize(
    ("asked", "types", "agents"),
    [
        ({}, ["words"], ["x-1", "x-2"]),
        ({"omit_types": True}, [], ["x-1", "x-2"]),
        ({"omit_agents": True}, ["words"], []),
        ({"omit_types": True, "omit_agents": True}, [], []),
        ({"agent_ids": ["x-2", "x-9"]}, ["words"], ["x-2"]),
    ],
)
async def test_a_watcher_gets_the_rows_it_asks_for(
    served: Served, asked: dict[str, Any], types: list[str], agents: list[str]
) -> None:
    served.log.append(completed("x-1"))
    served.log.append(completed("x-2"))
    await served.counted(2)
    request = pb.WatchWindowsRequest(count=5, **asked)
    request.window.seconds = 10
    stream = served.stub.WatchWindows(request)

    (window,) = (await stream.read()).windows

    assert window.total.completed_count == 2
    assert [row.key for row in window.types] == types
    assert sorted(row.key for row in window.agents) == agents
    stream.cancel()


async def test_a_watcher_hears_of_the_open_window_as_it_grows(served: Served) -> None:
    served.log.append(completed("a"))
    await served.counted(1)
    asked = pb.WatchWindowsRequest(count=5)
    asked.window.seconds = 10
    asked.update_interval.FromMilliseconds(100)
    stream = served.stub.WatchWindows(asked)
    first = await stream.read()
    served.log.append(completed("a"))
    await served.counted(2)
    await served.clock.sleepers(2)
    await served.clock.advance(0.1)

    second = await stream.read()

    assert [w.total.completed_count for w in first.windows] == [1]
    assert [w.total.completed_count for w in second.windows] == [2]
    stream.cancel()


async def test_a_trace_is_found_by_task_and_by_id(served: Served) -> None:
    assert await served.export(request("submit", "queue", error="late")) == b""
    await served.export(request("execute", first_span=3, service="agent"))

    by_task = await served.stub.GetTrace(pb.GetTraceRequest(task_id="t-1"))
    by_trace = await served.stub.GetTrace(pb.GetTraceRequest(trace_id=TRACE_ID.upper()))

    assert by_task == by_trace
    assert by_task.trace_id == TRACE_ID
    submit, execute, queue = (
        next(span for span in by_task.spans if span.name == name)
        for name in ("submit", "execute", "queue")
    )
    assert (submit.name, submit.service, submit.parent_span_id) == ("submit", "routing", "")
    assert (execute.name, execute.service) == ("execute", "agent")
    assert (queue.parent_span_id, queue.error) == (submit.span_id, "late")
    assert submit.attributes["task.id"] == "t-1"
    assert queue.start_time.ToNanoseconds() == 1_001
    assert queue.duration.ToNanoseconds() == 500


async def test_a_trace_is_what_was_exported_and_what_the_log_has(served: Served) -> None:
    await served.export(request("submit"))
    served.log.append(*whole())

    by_task = await served.stub.GetTrace(pb.GetTraceRequest(task_id="t-1"))
    by_trace = await served.stub.GetTrace(pb.GetTraceRequest(trace_id=TRACE_ID))

    assert by_task == by_trace
    assert {span.name for span in by_task.spans} == {
        *("submit", "queue", "route", "assign", "complete")
    }


async def test_a_task_of_which_nobody_exported_a_span_has_a_trace(served: Served) -> None:
    served.log.append(*whole())

    trace = await served.stub.GetTrace(pb.GetTraceRequest(task_id="t-1"))

    assert trace.trace_id == TRACE_ID
    assert [span.name for span in trace.spans] == ["queue", "route", "assign", "complete"]


async def test_what_an_older_service_exported_is_told_once(served: Served) -> None:
    await served.export(request("route", "assign", service="routing"))
    served.log.append(*whole())

    trace = await served.stub.GetTrace(pb.GetTraceRequest(task_id="t-1"))

    assert sorted(span.name for span in trace.spans) == ["assign", "complete", "queue", "route"]


async def test_half_a_trace_is_not_told_for_a_whole_one(served: Served) -> None:
    await served.export(request("submit"))
    served.log.down = True

    error = await refused(served.stub.GetTrace(pb.GetTraceRequest(task_id="t-1")))

    assert (error.code, error.reason) == ("UNAVAILABLE", "SCHEDULER_UNREACHABLE")
    assert error.retry_after_s == 0.5


async def test_a_collector_gets_the_legs_from_here(tmp_path: Path) -> None:
    with collecting() as (sink, collector):
        async with served_log() as (log, address):
            environ = {
                "PODIUM_DATA_DIR": str(tmp_path),
                "PODIUM_OTLP_ENDPOINT": collector,
                "PODIUM_TASK_SCHEDULER_ADDRESS": address,
            }
            settings = load(SERVICE.settings, environ)
            clock = ManualClock(wall_ms=BEGIN_MS)
            async with running(SERVICE, settings, dial=dial, clock=clock) as service:
                await eventually(lambda: service.assembled.ready() == "")
                log.append(*whole())
                await eventually(lambda: len(sink.spans) == 4)

    assert sorted(span.name for span in sink.spans) == ["assign", "complete", "queue", "route"]


async def test_the_exporter_of_opentelemetry_can_send_spans(served: Served) -> None:
    exporter = OTLPSpanExporter(endpoint=f"127.0.0.1:{served.port}", insecure=True)
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    def work() -> None:
        with provider.get_tracer("agent").start_as_current_span("execute") as span:
            span.set_attribute("task.id", "t-7")
        provider.shutdown()

    # It blocks until it has its answer, which comes from this loop.
    await asyncio.to_thread(work)

    trace = await served.stub.GetTrace(pb.GetTraceRequest(task_id="t-7"))
    assert [each.name for each in trace.spans] == ["execute"]


async def test_bytes_that_are_no_spans_are_refused(served: Served) -> None:
    error = await refused(served.export(b"\xff\xff\xff"))

    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST")
    await served.export(request("submit"))


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (pb.GetTraceRequest(), "INVALID_FIELD"),
        (pb.GetTraceRequest(task_id="t-1", trace_id=TRACE_ID), "INVALID_FIELD"),
        (pb.GetTraceRequest(trace_id="xyz"), "INVALID_FIELD"),
        (pb.GetTraceRequest(task_id="no such task"), "INVALID_FIELD"),
        (pb.GetTraceRequest(task_id="t-9"), "TRACE_NOT_FOUND"),
        (pb.GetTraceRequest(trace_id="e" * 32), "TRACE_NOT_FOUND"),
    ],
    ids=str,
)
async def test_traces_that_cannot_be_told(
    served: Served, asked: pb.GetTraceRequest, reason: str
) -> None:
    assert (await refused(served.stub.GetTrace(asked))).reason == reason


@pytest.mark.parametrize(("seconds", "nanos"), [(0, 0), (11, 0), (10, 5), (-10, 0)])
async def test_only_known_lengths_are_told(served: Served, seconds: int, nanos: int) -> None:
    asked = pb.QueryWindowsRequest()
    asked.window.seconds, asked.window.nanos = seconds, nanos

    error = await refused(served.stub.QueryWindows(asked))

    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "WINDOW_UNKNOWN")


@pytest.mark.parametrize("count", [-1, 1_001])
async def test_counts_out_of_range_are_named(served: Served, count: int) -> None:
    asked = pb.QueryWindowsRequest(count=count)
    asked.window.seconds = 300

    error = await refused(served.stub.QueryWindows(asked))

    assert [violation.field for violation in error.violations] == ["count"]


async def test_intervals_out_of_range_are_named(served: Served) -> None:
    asked = pb.WatchWindowsRequest()
    asked.window.seconds, asked.update_interval.seconds = 10, -1

    error = await refused(served.stub.WatchWindows(asked).read())

    assert [violation.field for violation in error.violations] == ["update_interval"]


async def test_an_answer_that_would_be_too_big_leaves_rows_of_the_oldest_windows_out(
    served: Served,
) -> None:
    for number in range(60):
        served.log.append(*(completed(f"agent-{a:04d}", at_s=number * 10.0) for a in range(300)))
    await eventually(lambda: _all_counted(served), within_s=30)

    asked = pb.QueryWindowsRequest(count=200)
    asked.window.seconds = 10
    answer = await served.stub.QueryWindows(asked)

    assert answer.ByteSize() <= response_bytes_max
    assert len(answer.windows) == 60
    assert len(answer.windows[0].agents) == 0
    assert len(answer.windows[-1].agents) == 300
    assert all(window.total.completed_count == 300 for window in answer.windows)


def test_every_method_needs_a_role() -> None:
    methods = pb.DESCRIPTOR.services_by_name["AnalyticsService"].methods_by_name

    assert set(POLICY) == {f"/{NAME}/{method}" for method in methods} | {export_method}


async def _all_counted(served: Served) -> bool:
    windows = await served.windows(count=1)
    told = [(each.start_time.ToMilliseconds(), each.total.completed_count) for each in windows]
    return told == [(BEGIN_MS + 590_000, 300)]
