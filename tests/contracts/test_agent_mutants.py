"""The suite sees what it is there for: agents with one thing wrong fail the test that is for it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from examples.stubs_agent import agent as stubs
from tests.contracts import session_agents, session_script, test_agent_timing
from tests.contracts import test_agent_session as session
from tests.contracts.session_agents import Begin, Conforming, OfTheStubs
from tests.contracts.session_script import Script, scripted


class AlwaysAsLong(OfTheStubs):
    """Waits for the bound itself, doubled each time: backoff without a draw."""

    os = SimpleNamespace(urandom=lambda count: b"\xff" * count, _exit=None, environ={})


class DrainsTooEarly(OfTheStubs):
    """Says that it drains before anybody has said Ready."""

    def leave(self) -> None:
        kept, self.ready_by = self.ready_by, stubs.READY
        self.say(drain={})
        self.ready_by = kept


class DrainsOnce(OfTheStubs):
    """Forgets, once Ready has come, that it was told to leave before."""

    def leave(self) -> None:
        if self.ready_by != stubs.READY:
            self.stopping = False


class DeafToHeartbeats(OfTheStubs):
    """Takes of a Tune the renewals alone."""

    def pace(self, *told: Any) -> None:
        for each in told:
            each.ClearField("heartbeat_interval")
        super().pace(*told)


class SleepsOn(OfTheStubs):
    """Lets the interval before run out, however long it is, when it is told a shorter one."""

    def __init__(self) -> None:
        super().__init__()
        self.paces_s = [0.05, 0.05]  # so that the first one is over soon

    def pace(self, *told: Any) -> None:
        kept, self.tuned = self.tuned, threading.Event()
        super().pace(*told)
        self.tuned = kept


class BeatsOn(OfTheStubs):
    """Keeps the heartbeats of Ready, whatever a Tune says."""

    def run(self) -> None:
        threading.Thread(target=self.beat, daemon=True).start()
        super().run()

    def beat(self) -> None:
        while not threading.Event().wait(0.1):
            with contextlib.suppress(AttributeError):  # nothing was said yet
                self.say(heartbeat={})


def begun(make: type[OfTheStubs]) -> Begin:
    @asynccontextmanager
    async def begin(address: str) -> AsyncIterator[Conforming]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(session_agents, "OfTheStubs", make)
            if hasattr(make, "os"):
                patch.setattr(stubs, "os", make.os)
            async with session_agents.stubs_agent(address) as agent:
                yield agent

    return begin


@pytest.mark.parametrize(
    ("make", "test"),
    [
        (AlwaysAsLong, test_agent_timing.test_waits_before_another_hello_are_drawn),
        (
            DrainsTooEarly,
            session.test_an_agent_that_is_told_to_leave_before_ready_drains_after_it,
        ),
        (DrainsOnce, session.test_an_agent_that_is_told_to_leave_before_ready_drains_after_it),
        (
            DeafToHeartbeats,
            lambda script: test_agent_timing.test_a_shorter_interval_is_kept_at_once(
                script, "heartbeat_interval"
            ),
        ),
        (
            SleepsOn,
            lambda script: test_agent_timing.test_a_shorter_interval_is_kept_at_once(
                script, "renew_interval"
            ),
        ),
        (BeatsOn, test_agent_timing.test_intervals_are_kept_as_the_router_tunes_them),
    ],
)
async def test_it_fails(
    make: type[OfTheStubs],
    test: Callable[[Script], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stubs, "READY_S_MAX", 0.5)
    monkeypatch.setattr(session_script, "UNTIL_S", 1.0)
    monkeypatch.setattr(test_agent_timing, "LATE_S", 1.0)
    monkeypatch.setattr(test_agent_timing, "DRAWS_MAX", 10)
    monkeypatch.setitem(session_script.MAKES, "mutant", begun(make))

    with pytest.raises(AssertionError):
        async with scripted("mutant") as script:
            await test(script)
