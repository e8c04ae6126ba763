from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from podium.sdk import wire
from tests.sdk.fakes import FakeRouter, router_of, serving


@pytest.fixture
async def router() -> AsyncIterator[FakeRouter]:
    """A fake router on the wire's own loop, since one loop alone may do gRPC."""
    shared = wire.acquire()
    made: list[FakeRouter] = []
    stop = asyncio.Event()
    started = threading.Event()

    async def serve() -> None:
        fake = FakeRouter()
        async with serving(router_of(fake)) as address:
            fake.address = address  # type: ignore[attr-defined]  # tests read it, nobody else
            made.append(fake)
            started.set()
            await stop.wait()

    served = asyncio.create_task(shared.run(serve()))
    await asyncio.get_running_loop().run_in_executor(None, started.wait)
    yield made[0]
    shared.loop.call_soon_threadsafe(stop.set)
    await served
    await wire.release(shared)
