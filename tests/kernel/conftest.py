from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.kernel.rpc import Guard
from tests.kernel.toy import WAYS, Stub, Toy


@pytest.fixture
def toy() -> Toy:
    return Toy()


@pytest.fixture
def guard() -> Guard:
    return Guard()


@pytest.fixture(params=list(WAYS))
async def stub(request: pytest.FixtureRequest, toy: Toy, guard: Guard) -> AsyncIterator[Stub]:
    """The toy, in each way a service is reached."""
    async with WAYS[request.param](toy, guard) as stub:
        yield stub
