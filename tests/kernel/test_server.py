from __future__ import annotations

import asyncio
import dataclasses
import urllib.request
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.kernel.clock import SystemClock
from services.kernel.inprocess import InProcessHub
from services.kernel.options import dial
from services.kernel.server import PortTaken, running
from tests.kernel.toy import SERVICE, Stub, Toy, text
from tests.kernel.toyservice import TOY, Settings
from tests.support.ports import free_port, free_ports

QUIET = Settings(otlp_endpoint="off")


def serve(settings: Settings = QUIET, **options: Any) -> Any:
    return running(TOY, settings, dial=dial, clock=SystemClock(), **options)


async def health(channel: grpc.aio.Channel, name: str) -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
    return int(answer.status)


async def reflected(channel: grpc.aio.Channel) -> list[str]:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = stub.ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    )
    return [s.name async for answer in call for s in answer.list_services_response.service]


async def test_a_running_service_answers_tells_its_port_and_its_health(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with serve() as service, dial(f"127.0.0.1:{service.port}") as channel:
        assert (await Stub(channel).unary(text("x"))).value == "x"
        for name in ("", SERVICE, "readiness"):
            assert await health(channel, name) == health_pb2.HealthCheckResponse.SERVING
        assert SERVICE in await reflected(channel)

    assert f"bound {service.port}" in capsys.readouterr().out


async def test_a_drain_withdraws_readiness_and_keeps_alive() -> None:
    async with serve() as service, dial(f"127.0.0.1:{service.port}") as channel:
        await service.drain()

        assert await health(channel, SERVICE) == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await health(channel, "") == health_pb2.HealthCheckResponse.SERVING
        # What was begun, and what comes all the same, is still served.
        assert (await Stub(channel).unary(text("x"))).value == "x"


async def test_a_service_that_is_not_ready_is_alive() -> None:
    settings = dataclasses.replace(QUIET, fault="unready")
    async with serve(settings) as service, dial(f"127.0.0.1:{service.port}") as channel:
        assert await health(channel, "readiness") == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await health(channel, "") == health_pb2.HealthCheckResponse.SERVING


async def test_production_does_not_tell_its_contract() -> None:
    settings = dataclasses.replace(QUIET, profile="production")
    async with serve(settings) as service, dial(f"127.0.0.1:{service.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await reflected(channel)

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_taken_port_names_the_setting_to_change() -> None:
    async with serve() as service:
        with pytest.raises(PortTaken, match=r"address already in use.*PODIUM_TOY_PORT"):
            async with serve(port=service.port):
                pass


async def test_a_host_that_is_not_ours_names_the_setting_to_change() -> None:
    settings = dataclasses.replace(QUIET, host="192.0.2.1")
    with pytest.raises(PortTaken, match="set PODIUM_HOST to an address of this machine"):
        async with serve(settings, port=0):
            pass
    with pytest.raises(PortTaken, match="set PODIUM_HOST to an address of this machine"):
        async with serve(settings, port=free_port()):
            pass


def scraped(url: str) -> str:
    with urllib.request.urlopen(url) as answer:
        return str(answer.read(), "utf-8")


async def test_metrics_are_served_beside() -> None:
    port, metrics_port = free_ports(2)
    settings = dataclasses.replace(QUIET, metrics_port_offset=metrics_port - port)
    async with serve(settings, port=port) as service:
        service.assembled.telemetry.metrics.counter("podium_toys_total", "Toys.").inc(7)
        url = f"http://127.0.0.1:{metrics_port}/metrics"
        assert "podium_toys_total 7.0" in await asyncio.to_thread(scraped, url)


async def test_in_process_the_same_service_is_reached_without_a_port() -> None:
    hub = InProcessHub()
    async with serve(port=None, hub=hub) as service:
        assert service.port == 0
        assert (await Stub(hub.dial("toy:1")).unary(text("x"))).value == "x"

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await Stub(hub.dial("toy:1")).unary(text("x"))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_an_open_call_may_end_within_the_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    release, started = asyncio.Event(), asyncio.Event()

    async def slow(request: Any, context: Any) -> Any:
        started.set()
        await release.wait()
        return request

    def __init__(self: Toy) -> None:
        original(self)
        self.unary = slow

    original = Toy.__init__
    monkeypatch.setattr(Toy, "__init__", __init__)
    async with serve(stop_s=10.0) as service:
        channel = dial(f"127.0.0.1:{service.port}")
        call = asyncio.ensure_future(Stub(channel).unary(text("begun")))
        await started.wait()
        asyncio.get_running_loop().call_later(0.05, release.set)

    assert (await call).value == "begun"
    await channel.close()
