from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cli.shell import Shell
from tests.task_scheduler.serving import Served, wire


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """A scheduler as it runs in production."""
    async with wire(tmp_path) as served:
        yield served


@pytest.fixture
def shell(served: Served) -> Shell:
    """`podium` with that scheduler."""
    return Shell({"PODIUM_TASK_SCHEDULER_ADDRESS": served.address, "PODIUM_OTLP_ENDPOINT": "off"})
