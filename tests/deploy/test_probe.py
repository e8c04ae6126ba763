"""The container's own question for readiness, put to a real health service."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tests.support.ports import free_port
from tests.support.processes import Processes

PROBE = Path(__file__).resolve().parents[2] / "deploy/probe.py"
ready = runpy.run_path(str(PROBE))["ready"]

Status = health_pb2.HealthCheckResponse


@pytest.fixture
def service() -> Iterator[tuple[health.HealthServicer, int]]:
    servicer = health.HealthServicer()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, port
    server.stop(None).wait()


def test_a_ready_service_ends_the_probe_with_zero(
    service: tuple[health.HealthServicer, int], processes: Processes
) -> None:
    servicer, port = service
    servicer.set("readiness", Status.SERVING)

    assert processes.python(str(PROBE), str(port)).wait() == 0


@pytest.mark.parametrize("status", ["NOT_SERVING", "UNKNOWN"])
def test_a_service_that_is_alive_but_not_ready_is_told(
    service: tuple[health.HealthServicer, int], status: str
) -> None:
    servicer, port = service
    servicer.set("", Status.SERVING)
    servicer.set("readiness", Status.ServingStatus.Value(status))

    assert ready(f"127.0.0.1:{port}") == f"127.0.0.1:{port}: {status}"


def test_nobody_there_is_told_and_ends_the_probe_with_one(processes: Processes) -> None:
    port = free_port()

    probe = processes.python(str(PROBE), str(port))

    assert probe.wait() == 1
    assert f"127.0.0.1:{port}: UNAVAILABLE" in probe.output()
