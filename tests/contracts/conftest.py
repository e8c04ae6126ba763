"""The script that every agent is played, one make after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from examples.stubs_agent import agent as stubs
from podium.sdk import session as session_module
from tests.contracts.session_script import MAKES, Script, scripted


@pytest.fixture(params=MAKES)
async def script(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Script]:
    monkeypatch.setattr(session_module, "READY_S_MAX", 1.0)
    monkeypatch.setattr(stubs, "READY_S_MAX", 0.5)
    async with scripted(request.param) as begun:
        yield begun
