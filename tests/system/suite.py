"""The services under test as processes of their own, each of which a test may kill and start."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.suite import prepared
from tests.support.ports import ports_of
from tests.support.processes import Process, Processes
from tests.support.waiting import eventually

SERVICES = ("task_scheduler", "agent_registry", "routing", "analytics")


class Suite:
    """Services on free ports, which they keep when they are started again."""

    def __init__(self, processes: Processes, data_dir: Path) -> None:
        self.environ = prepared(data_dir=data_dir, ports=ports_of(SERVICES)).environ
        self._processes = processes
        self._running: dict[str, Process] = {}

    async def start(self, *names: str) -> None:
        """Starts services and waits until each can do its work."""
        for name in names:
            self._running[name] = self._processes.python(
                "-m", f"services.{name}", environ=self.environ
            )
        for name in names:
            process = self._running[name]
            await eventually(lambda: self._ready(name), within_s=30, told=process.output)  # noqa: B023 - awaited in this turn

    async def _ready(self, name: str) -> bool:
        async with grpc.aio.insecure_channel(
            self.environ[f"PODIUM_{name.upper()}_ADDRESS"]
        ) as channel:
            request = health_pb2.HealthCheckRequest(service="readiness")
            try:
                answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=1)
            except grpc.aio.AioRpcError:
                return False
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def kill_and_start(self, name: str) -> None:
        """Kills a service (SIGKILL) and starts it again on its port."""
        await asyncio.to_thread(self._running[name].kill)
        await self.start(name)
