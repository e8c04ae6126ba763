"""Agents that do as a task tells them: of the SDK, of the stubs alone, behind a WebSocket, yours.

A task says what to do by its first word: say, hold, wait, report, fail or large.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shlex
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import aiohttp
import pytest

from examples.stubs_agent import agent as stubs
from podium.sdk.agent import Agent
from podium.sdk.context import Context
from podium.sdk.errors import AgentSuperseded, Final
from podium.sdk.host import AgentHost
from podium.sdk.settings import Settings
from podium.v1 import session_pb2
from tests.support.processes import ROOT
from tests.support.spelling import Spelling

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


class OfTheWeb:
    """What docs/bridge.md tells agents behind a WebSocket to do."""

    def __init__(self, url: str, spelling: Spelling) -> None:
        self._url = url
        self._spelling = spelling
        self._instance_id = uuid.uuid4().hex
        self._token, self._seq = "", "0"
        self._leases: dict[tuple[str, str], dict[str, Any] | None] = {}
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._timers: list[asyncio.Task[None]] = []
        self._leaving = False
        self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        self._leaving = True
        self._say(drain={"reason": "stopping"})
        self._leave_if_done()

    @property
    def ended(self) -> bool:
        return self._task.done()

    async def finish(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        protocols = [self._spelling.subprotocol]
        async with aiohttp.ClientSession() as http:
            while True:
                with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                    async with http.ws_connect(self._url, protocols=protocols) as socket:
                        self._socket = socket
                        self._hello()
                        if await self._listen(socket):
                            return
                await asyncio.sleep(0.1)

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse) -> bool:
        """Returns whether the agent has ended."""
        try:
            async for message in socket:
                heard = self._spelling.read(message.data)
                for frame in heard.get("agent", {}).get("frames", ()):
                    if self._take(frame):
                        return True
                if "error" in heard:
                    asyncio.get_running_loop().call_later(0.1, self._hello)
        finally:
            self._silence()
        return False

    def _hello(self) -> None:
        held = [{"taskId": task_id, "leaseEpoch": epoch} for task_id, epoch in self._leases]
        self._say(
            hello={
                "instanceId": self._instance_id,
                "capabilities": [{"name": TYPE}],
                "maxConcurrency": 4,
                "inFlight": held,
                "resumeToken": self._token,
                "lastSeq": self._seq,
            }
        )

    def _say(self, **frame: Any) -> None:
        message = self._spelling.write({"agent": {"frames": [{"agentId": AGENT_ID, **frame}]}})
        socket = self._socket
        if socket is not None and not socket.closed:
            text = isinstance(message, str)
            sending = socket.send_str(message) if text else socket.send_bytes(message)
            # aiohttp writes at once as long as its buffer has room.
            self._timers.append(asyncio.ensure_future(sending))

    def _take(self, frame: dict[str, Any]) -> bool:
        self._seq = frame.get("seq", self._seq)
        arm = next(each for each in frame if each not in ("agentId", "seq"))
        said = frame[arm]
        match arm:
            case "ready":
                self._ready(said)
            case "assign":
                self._begin(said)
            case "cancel" if said.get("reason") != "LEASE_LOST":
                self._finish(_key(said["lease"]), {"canceled": {}})
            case "cancel" | "resultAck":
                self._forget([said["lease"]])
            case "renewAck":
                self._forget(said.get("lost", ()))
            case "recall":
                self._forget(said.get("leases", ()))
            case "probe":
                self._say(probeReply={"nonce": said.get("nonce", "0")})
            case "refusal" if said.get("closing"):
                self._silence()
                asyncio.get_running_loop().call_later(0.1, self._hello)
            case "superseded":
                return True
        return self._leave_if_done()

    def _leave_if_done(self) -> bool:
        if not self._leaving or self._leases:
            return False
        self._say(goodbye={"reason": "stopping"})
        asyncio.get_running_loop().call_later(0.1, self._task.cancel)
        return False

    def _ready(self, ready: dict[str, Any]) -> None:
        self._token = ready.get("resumeToken", "")
        for verdict in ready.get("verdicts", ()):
            if verdict["verdict"] != "VERDICT_KEEP":
                self._forget([verdict["lease"]])
        for result in [each for each in self._leases.values() if each is not None]:
            self._say(result=result)
        self._silence()
        self._timers.append(asyncio.create_task(self._renew(ready["renewInterval"])))

    async def _renew(self, interval: str) -> None:
        while True:
            await asyncio.sleep(float(interval.removesuffix("s")))
            held = [{"taskId": task_id, "leaseEpoch": epoch} for task_id, epoch in self._leases]
            self._say(renew={"leases": held})

    def _silence(self) -> None:
        for timer in self._timers:
            if timer.get_coro().__name__ == "_renew":  # type: ignore[union-attr]  # a coroutine
                timer.cancel()
        self._timers = [timer for timer in self._timers if not timer.done()]

    def _begin(self, assign: dict[str, Any]) -> None:
        lease = {"taskId": assign["taskId"], "leaseEpoch": assign["leaseEpoch"]}
        key = _key(lease)
        if assign["spec"]["type"] != TYPE:
            self._say(nack={"lease": lease, "reason": "REASON_INCAPABLE"})
            return
        self._leases[key] = None
        self._say(ack={"lease": lease})
        text = base64.b64decode(assign["spec"]["payload"]["data"])
        match text.split()[0].decode():
            case "wait":
                return
            case "hold":
                loop = asyncio.get_running_loop()
                loop.call_later(HOLD_S, self._finish, key, _success(text))
            case "fail":
                self._finish(key, {"failure": {"reason": "AS_TOLD", "message": "as told"}})
            case "large":
                self._finish(key, _success(b"x" * LARGE_BYTES))
            case "report":
                for number, fraction in enumerate((0.25, 0.75), 1):
                    report = {"lease": lease, "reportSeq": str(number), "fraction": fraction}
                    self._say(progress=report)
                self._finish(key, _success(text))
            case _:
                self._finish(key, _success(text))

    def _finish(self, key: tuple[str, str], outcome: dict[str, Any]) -> None:
        if self._leases.get(key, outcome) is None:
            lease = {"taskId": key[0], "leaseEpoch": key[1]}
            result = self._leases[key] = {"lease": lease, **outcome}
            self._say(result=result)

    def _forget(self, leases: Any) -> None:
        for lease in leases:
            self._leases.pop(_key(lease), None)


def _key(lease: dict[str, Any]) -> tuple[str, str]:
    return lease["taskId"], lease["leaseEpoch"]


def _success(data: bytes) -> dict[str, Any]:
    return {"success": {"data": base64.b64encode(data).decode()}}


def web_agent(spelling: Spelling) -> Begin:
    @asynccontextmanager
    async def begin(address: str) -> AsyncIterator[Conforming]:
        agent = OfTheWeb(f"http://{address}/ws", spelling)
        try:
            yield agent
        finally:
            await agent.finish()

    return begin


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
