"""Health as the standard service tells it: liveness apart from readiness.

The empty name is liveness: serving as long as the process serves, whatever it waits for, so that
nobody restarts it for a peer's fault. Each service's full name, and `readiness` for all of them,
follow what the service says of itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health

readiness_name = "readiness"
poll_s = 0.2

log = logging.getLogger("podium.kernel.readiness")


class Readiness:
    """The health of one server."""

    def __init__(
        self, service: str, service_names: tuple[str, ...], ready: Callable[[], str]
    ) -> None:
        self.servicer = health.HealthServicer()
        self._service = service
        self._names = (*service_names, readiness_name)
        self._ready = ready
        self._told: str | None = None
        self._withdrawn = False

    async def follow(self) -> None:
        """Let health follow what the service says, until cancelled."""
        while not self._withdrawn:
            await self.refresh()
            # Real time, also where a test's clock stands still: health is asked from outside.
            await asyncio.sleep(poll_s)

    async def refresh(self) -> None:
        """Ask the service and tell its health."""
        reason = self._ready()
        if self._withdrawn or reason == self._told:
            return
        if reason:
            log.info("podium %s is not ready: %s", self._service, reason)
        elif self._told is not None:
            log.info("podium %s is ready", self._service)
        self._told = reason
        await self._set(serving=not reason)

    async def withdraw(self) -> None:
        """Tell for good that no new work should come here; the process stays alive."""
        self._withdrawn = True
        await self._set(serving=False)

    async def _set(self, *, serving: bool) -> None:
        kinds = health_pb2.HealthCheckResponse
        for name in self._names:
            await self.servicer.set(name, kinds.SERVING if serving else kinds.NOT_SERVING)
