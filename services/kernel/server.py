"""One service that serves: bind, guard, health, reflection and metrics around an assembled service.

Production, tests and the suite in one process all use the same `running`.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc.aio
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_NAME
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from services.kernel import auth
from services.kernel.clock import Clock
from services.kernel.config import Common, variable
from services.kernel.inprocess import InProcessHub
from services.kernel.options import Dial, server_options
from services.kernel.readiness import Readiness
from services.kernel.rpc import Guard
from services.kernel.telemetry import Telemetry

log = logging.getLogger("podium.kernel.server")

S = TypeVar("S", bound=Common)

_OFFSET = "PODIUM_METRICS_PORT_OFFSET"


class PortTaken(Exception):
    """The service cannot listen there; the message names the setting to change."""


@dataclass
class Assembled:
    """A service put together: what its server needs of it."""

    register: Callable[[grpc.aio.Server], None]
    """Adds the servicers to a server (or to the in-process hub)."""
    service_names: tuple[str, ...]
    """Full gRPC names of the services, for health and reflection."""
    ready: Callable[[], str] = lambda: ""
    """Empty when the service can do its work, else what it waits for."""
    drain: Callable[[], Awaitable[None]] | None = None
    """Finishes or hands over the work; called once, after readiness is withdrawn."""
    bound: Callable[[int], None] | None = None
    """Told the gRPC port once it is known."""
    telemetry: Telemetry | None = None
    """Its metrics are served over HTTP."""
    policy: auth.Policy | None = None
    """The role each method asks for; where callers are checked, a method without is refused."""
    loops: Sequence[asyncio.Task[Any]] = ()
    """The service's endless tasks: the process ends when one of them fails."""
    listen: Callable[[str, int], Awaitable[int]] | None = None
    """Serves on this host and port in place of gRPC, for who speaks HTTP; returns the port."""


@dataclass(frozen=True)
class ServiceSpec(Generic[S]):
    """What a service is, and how it is put together."""

    name: str
    settings: type[S]
    summary: str
    assemble: Callable[[S, Dial, Clock], AbstractAsyncContextManager[Assembled]]


@dataclass
class Running:
    """A service that serves."""

    name: str
    port: int
    assembled: Assembled
    readiness: Readiness

    async def drain(self) -> None:
        """Withdraw readiness and let the service finish or hand over its work."""
        await self.readiness.withdraw()
        if self.assembled.drain is not None:
            await self.assembled.drain()


@asynccontextmanager
async def running(
    spec: ServiceSpec[S],
    settings: S,
    *,
    dial: Dial,
    clock: Clock,
    port: int | None = 0,
    hub: InProcessHub | None = None,
    stop_s: float = 0.0,
) -> AsyncIterator[Running]:
    """Serve `spec` until the block ends.

    Args:
        spec: The service.
        settings: Its settings.
        dial: Gives it channels to its peers.
        clock: Its time.
        port: gRPC port; 0 takes a free one, None opens none.
        hub: Where the service is reached in process as well.
        stop_s: Seconds that open calls have to end once the block is left.

    Raises:
        PortTaken: The service cannot listen on the port.
    """
    async with AsyncExitStack() as stack:
        assembled = await stack.enter_async_context(spec.assemble(settings, dial, clock))
        guard = Guard(auth.admission(settings, assembled.policy, clock))
        if hub is not None:
            stack.push_async_callback(hub.add(assembled.register, guard), stop_s)
        readiness = Readiness(spec.name, assembled.service_names, assembled.ready)
        await readiness.refresh()
        bound_port = 0
        if port is not None and assembled.listen is not None:
            if port:
                _check_free(settings.host, port, variable(spec.settings, "port"))
            bound_port = await assembled.listen(settings.host, port)
        elif port is not None:
            server = _server(settings, assembled, guard, readiness)
            bound_port = _bind(server, spec, settings, port)
            await server.start()
            stack.push_async_callback(server.stop, stop_s)
        if assembled.bound is not None:
            assembled.bound(bound_port)
        if port and settings.metrics_port_offset and assembled.telemetry is not None:
            stack.callback(_serve_metrics(settings, port, assembled.telemetry))
        await stack.enter_async_context(_background(readiness.follow()))
        log.info("podium %s listening on %s:%d", spec.name, settings.host, bound_port)
        yield Running(spec.name, bound_port, assembled, readiness)


def _server(
    settings: Common, assembled: Assembled, guard: Guard, readiness: Readiness
) -> grpc.aio.Server:
    server = grpc.aio.server(interceptors=[guard], options=server_options())
    assembled.register(server)
    health_pb2_grpc.add_HealthServicer_to_server(readiness.servicer, server)
    if settings.profile == "development":
        listed = (*assembled.service_names, HEALTH_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(listed, server)
    return server


def _bind(server: grpc.aio.Server, spec: ServiceSpec[S], settings: S, port: int) -> int:
    setting = variable(spec.settings, "port")
    if port:
        # Asked first, because gRPC reports a taken port in several lines of its own.
        _check_free(settings.host, port, setting)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        return server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:
        raise PortTaken(
            f"cannot listen on {settings.host}:{port}; set PODIUM_HOST to an address of this "
            f"machine, or {setting} to another port"
        ) from None


def _check_free(host: str, port: int, setting: str) -> None:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        # Of the faults of an address only these two are cured by another port.
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise PortTaken(
                f"cannot listen on {host}:{port}: {reason}; set PODIUM_HOST to an address of this "
                "machine"
            ) from None
        raise PortTaken(_untakable(host, port, reason, setting)) from None


def _untakable(host: str, port: int, reason: str, setting: str) -> str:
    what = "another value, or to 0 for none" if setting == _OFFSET else "another port"
    return f"cannot listen on {host}:{port}: {reason}; set {setting} to {what}"


def _serve_metrics(settings: Common, port: int, telemetry: Telemetry) -> Callable[[], None]:
    metrics_port = port + settings.metrics_port_offset
    _check_free(settings.host, metrics_port, _OFFSET)
    httpd, thread = start_http_server(metrics_port, settings.host, registry=telemetry.registry)

    def stop() -> None:
        httpd.shutdown()
        httpd.server_close()
        thread.join()

    return stop


@asynccontextmanager
async def _background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
