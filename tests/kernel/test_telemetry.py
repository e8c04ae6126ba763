from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from prometheus_client import generate_latest

from services.kernel import telemetry
from services.kernel.config import Common


class Sink(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.shown: set[str] = set()

    def Export(self, request: Any, context: Any) -> Any:
        self.shown.update(v for k, v in context.invocation_metadata() if k == "authorization")
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return trace_service_pb2.ExportTraceServiceResponse()


@contextmanager
def collecting() -> Iterator[tuple[Sink, str]]:
    sink = Sink()
    server = grpc.server(futures.ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(sink, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield sink, f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


async def test_spans_reach_a_collector_by_the_end() -> None:
    with collecting() as (sink, address):
        settings = dataclasses.replace(Common(), otlp_endpoint=address)
        async with telemetry.started("routing", settings) as seen:
            for number in range(3_000):
                seen.tracer.record(1, number + 1, 0, "route", 0, 1, (("task.id", "t"),))

    assert len(sink.spans) == 3_000
    assert "podium_spans_exported_total 3000.0" in generate_latest(seen.registry).decode()
    assert "podium_spans_dropped_total 0.0" in generate_latest(seen.registry).decode()


@pytest.mark.parametrize(
    ("endpoint", "shown"), [("", {"Bearer a.b.c"}), ("given", set())], ids=["ours", "another's"]
)
async def test_the_token_is_shown_to_our_own_collector_alone(
    tmp_path: Path, endpoint: str, shown: set[str]
) -> None:
    (tmp_path / "token").write_text("a.b.c")
    with collecting() as (sink, address):
        settings = dataclasses.replace(
            Common(),
            analytics_address="127.0.0.1:1" if endpoint else address,
            otlp_endpoint=address if endpoint else "",
            auth_token_file=str(tmp_path / "token"),
        )
        async with telemetry.started("routing", settings) as seen:
            seen.tracer.record(1, 2, 0, "route", 0, 1)

    assert len(sink.spans) == 1
    assert sink.shown == shown


async def test_where_nobody_takes_spans_none_are_kept() -> None:
    settings = dataclasses.replace(Common(), otlp_endpoint="off")
    async with telemetry.started("routing", settings) as seen:
        seen.tracer.record(1, 2, 0, "route", 0, 1)
        seen.metrics.counter("podium_toys_total", "Toys.").inc()

        assert len(seen.tracer) == 0


async def test_a_test_may_take_the_requests_itself() -> None:
    requests: list[bytes] = []
    async with telemetry.started("routing", Common(), send=requests.append) as seen:
        seen.tracer.record(1, 2, 0, "route", 0, 1)

    [request] = requests
    assert trace_service_pb2.ExportTraceServiceRequest.FromString(request).resource_spans


async def test_spans_of_other_services_are_told_as_theirs() -> None:
    requests: list[bytes] = []
    async with telemetry.started(
        "analytics", Common(), send=requests.append, others=("routing",)
    ) as seen:
        seen.tracers["routing"].record(1, 2, 0, "route", 0, 1)

    [request] = requests
    [told] = trace_service_pb2.ExportTraceServiceRequest.FromString(request).resource_spans
    assert told.resource.attributes[0].value.string_value == "routing"
    assert "podium_spans_exported_total 1.0" in generate_latest(seen.registry).decode()
