"""Agents that do as a task tells them: of the SDK, of the stubs alone, behind a WebSocket, yours.

A task says what to do by its first word: say, hold, wait, report, fail or large.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import pytest

from examples.stubs_agent import agent as stubs
from podium.sdk.agent import Agent
from podium.sdk.context import Context
from podium.sdk.errors import AgentSuperseded, Final
from podium.sdk.host import AgentHost
from podium.sdk.settings import Settings
from podium.v1 import session_pb2
from tests.support.processes import ROOT

AGENT_ID = "wordy"
TYPE = "text.count"
LARGE_BYTES = 300_000

HOLD_S = 0.5
CLIENT_MODULE = ROOT / "services" / "edge" / "static" / "podium.js"
CLIENT_PROGRAM = ROOT / "clients" / "web" / "test" / "programs" / "conforming.mjs"


class Conforming(Protocol):
    """An agent under test."""

    def stop(self) -> None:
        """Asks it to leave in order."""
        ...

    @property
    def ended(self) -> bool:
        """Whether it has left."""
        ...


Begin = Callable[[str], contextlib.AbstractAsyncContextManager[Conforming]]
"""Starts an agent for a router, or for a bridge, at an address."""


class OfTheSdk:
    def __init__(self, host: AgentHost) -> None:
        self._host = host
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        # To be replaced by a newer instance is one of the ends.
        with contextlib.suppress(AgentSuperseded):
            await self._host.run()

    def stop(self) -> None:
        self._host.stop()

    @property
    def ended(self) -> bool:
        return self._task.done()

    async def finish(self) -> None:
        self._host.stop()
        await self._task


@asynccontextmanager
async def sdk_agent(address: str) -> AsyncIterator[Conforming]:
    agent = Agent("conforming", agent_id=AGENT_ID, capacity=4)

    @agent.handles(TYPE)
    async def work(text: str, task: Context) -> Any:
        match text.split()[0]:
            case "wait":
                await asyncio.Event().wait()
            case "hold":
                await asyncio.sleep(HOLD_S)
            case "fail":
                raise Final("as told", reason="AS_TOLD")
            case "large":
                return b"x" * LARGE_BYTES
            case "report":
                task.progress(0.25, "a quarter")
                task.progress(0.75, "three quarters")
        return text.encode()

    running = OfTheSdk(
        AgentHost([agent], settings=Settings(routing=address, otlp_endpoint="off"), grace_s=1.0)
    )
    try:
        yield running
    finally:
        await running.finish()


class OfTheStubs(stubs._WordCounter):
    """The example as it is, but for the work itself."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def work(self, lease: session_pb2.LeaseRef, text: bytes) -> None:
        result = session_pb2.Result(lease=lease)
        match text.split()[0].decode():
            case "wait":
                return
            case "hold":
                time.sleep(HOLD_S)
                result.success.data = text
            case "fail":
                result.failure.reason, result.failure.message = "AS_TOLD", "as told"
            case "large":
                result.success.data = b"x" * LARGE_BYTES
            case "report":
                for number, fraction in enumerate((0.25, 0.75), 1):
                    report = {"lease": lease, "report_seq": number, "fraction": fraction}
                    self.say(progress=report)
                result.success.data = text
            case _:
                result.success.data = text
        self.finish(result)

    @property
    def ended(self) -> bool:
        return not self.thread.is_alive()


@asynccontextmanager
async def stubs_agent(address: str) -> AsyncIterator[Conforming]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stubs, "ADDRESS", address)
        agent = OfTheStubs()
        agent.thread.start()
        try:
            yield agent
        finally:
            agent.stopping = True
            agent.leases.clear()
            with contextlib.suppress(AttributeError):
                agent.call.cancel()
            await asyncio.to_thread(agent.thread.join, 10)


class Program:
    """An agent that is a process, in whatever language; it finds its router in its environment."""

    def __init__(self, command: str, address: str) -> None:
        environ = {**os.environ, "PODIUM_ROUTING_ADDRESS": address}
        self._process = subprocess.Popen(shlex.split(command), env=environ)

    def stop(self) -> None:
        self._process.terminate()

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def finish(self) -> None:
        self._process.kill()
        self._process.wait()


def client_agent(node: str) -> Begin:
    """Returns the agent of the web client, in Node, as Edge serves it to pages."""

    def begin(address: str) -> contextlib.AbstractAsyncContextManager[Conforming]:
        url = f"ws://{address}/ws"
        # Node before 22 has a WebSocket behind this flag.
        flags = "--experimental-websocket --no-warnings"
        program = f"{node} {flags} {CLIENT_PROGRAM} {CLIENT_MODULE} {url} {AGENT_ID} {TYPE}"
        return program_agent(program)(address)

    return begin


def program_agent(command: str) -> Begin:
    @asynccontextmanager
    async def begin(address: str) -> AsyncIterator[Conforming]:
        agent = Program(command, address)
        try:
            yield agent
        finally:
            agent.finish()

    return begin


def main() -> None:
    """Runs the stubs-only agent, as a program that may be judged."""
    agent = OfTheStubs()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, agent.stop)
    agent.run()


if __name__ == "__main__":
    main()
