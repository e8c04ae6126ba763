"""The script that every agent is played, one make after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from examples.stubs_agent import agent as stubs
from podium.sdk import session as session_module
from podium.sdk.backoff import Backoff
from tests.contracts.session_script import MAKES, Script, scripted


@pytest.fixture(params=MAKES)
async def script(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Script]:
    monkeypatch.setattr(session_module, "READY_S_MAX", 1.0)
    # No stream lasts for long here, and waits that grow over all of them take long.
    monkeypatch.setattr(Backoff, "lasted", lambda backoff, seconds: backoff.reset())
    monkeypatch.setattr(stubs, "READY_S_MAX", 0.5)
    async with scripted(request.param) as begun:
        yield begun
