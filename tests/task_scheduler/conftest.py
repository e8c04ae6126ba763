from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.task_scheduler.serving import WAYS, Served


@pytest.fixture(params=list(WAYS))
async def served(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Served]:
    """TaskScheduler in each way it is reached: over the wire and in process."""
    async with WAYS[request.param](tmp_path) as served:
        yield served


@pytest.fixture
async def wired(tmp_path: Path) -> AsyncIterator[Served]:
    """TaskScheduler over the wire alone, for what does not depend on the way."""
    async with WAYS["wire"](tmp_path) as served:
        yield served
