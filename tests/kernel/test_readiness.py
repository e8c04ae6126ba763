from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from services.kernel import readiness
from services.kernel.readiness import Readiness
from tests.support.waiting import eventually

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def status(health: Readiness, name: str) -> Any:
    request = health_pb2.HealthCheckRequest(service=name)
    return (await health.servicer.Check(request, None)).status  # type: ignore[arg-type]  # unused


async def test_readiness_follows_the_service_and_liveness_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readiness, "poll_s", 0.001)
    reason = ["waits for its journal"]
    health = Readiness("toy", ("podium.test.Toy",), lambda: reason[0])
    await health.refresh()
    task = asyncio.create_task(health.follow())

    async def answers() -> list[Any]:
        return [await status(health, name) for name in ("", "podium.test.Toy", "readiness")]

    async def become(*expected: Any) -> None:
        async def reached() -> bool:
            return await answers() == list(expected)

        await eventually(reached)

    await become(SERVING, NOT_SERVING, NOT_SERVING)
    reason[0] = ""
    await become(SERVING, SERVING, SERVING)
    reason[0] = "lost its journal"
    await become(SERVING, NOT_SERVING, NOT_SERVING)
    reason[0] = ""
    await become(SERVING, SERVING, SERVING)
    await health.withdraw()
    await health.refresh()
    assert await answers() == [SERVING, NOT_SERVING, NOT_SERVING]
    await asyncio.wait_for(task, 5)
