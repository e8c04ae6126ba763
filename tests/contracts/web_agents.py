"""Agents behind a WebSocket: what docs/bridge.md tells them to do, in each spelling."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.contracts.session_agents import AGENT_ID, HOLD_S, LARGE_BYTES, TYPE, Begin, Conforming
from tests.support.spelling import Spelling

WAIT_S_MIN, WAIT_S_MAX = 0.1, 5.0


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
        self._leaving = self._gone = self._ready = False
        self._paces_s: dict[str, float] = {}
        self._wait_s = WAIT_S_MIN
        self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        self._leaving = True
        if self._ready:  # else it is said after Ready
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
                    self._silence()  # nothing is said between a Hello and its Ready
                    self._hello_later()
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
        if socket is not None and not socket.closed and not self._gone:
            text = isinstance(message, str)
            sending = socket.send_str(message) if text else socket.send_bytes(message)
            # aiohttp writes at once as long as its buffer has room.
            self._timers.append(asyncio.ensure_future(sending))

    def _take(self, frame: dict[str, Any]) -> bool:
        self._seq = frame.get("seq", self._seq)
        arm = next((each for each in frame if each not in ("agentId", "seq")), "")
        said = frame.get(arm)
        match arm:
            case "ready":
                self._welcomed(said)
            case "assign":
                self._begin(said)
            case "cancel" if said.get("reason") != "LEASE_LOST":
                self._finish(_key(said["lease"]), {"canceled": {}})
            case "cancel" | "resultAck":
                self._forget([said["lease"]])
            case "renewAck" | "recall":
                self._forget(said.get("lost", said.get("leases", ())))
            case "probe":
                self._say(probeReply={"nonce": said.get("nonce", "0")})
            case "refusal" if said.get("closing"):
                self._silence()
                self._hello_later(float(said.get("retryAfter", "0s").removesuffix("s")))
            case "tune":
                self._pace(said)
            case "superseded":
                return True
        return self._leave_if_done()

    def _leave_if_done(self) -> bool:
        if not self._leaving or not self._ready or self._leases:
            return False
        self._say(goodbye={"reason": "stopping"})
        self._gone = True
        asyncio.get_running_loop().call_later(0.1, self._task.cancel)
        return False

    def _welcomed(self, ready: dict[str, Any]) -> None:
        self._ready = True
        self._token = ready.get("resumeToken", "")
        for verdict in ready.get("verdicts", ()):
            if verdict["verdict"] != "VERDICT_KEEP":
                self._forget([verdict["lease"]])
        if self._leaving:
            self._say(drain={"reason": "stopping"})
        for result in [each for each in self._leases.values() if each is not None]:
            self._say(result=result)
        self._wait_s = WAIT_S_MIN
        self._pace(ready)

    def _hello_later(self, away_s: float = 0.0) -> None:
        drawn_s = random.uniform(0, self._wait_s)
        self._wait_s = min(WAIT_S_MAX, 2 * self._wait_s)
        asyncio.get_running_loop().call_later(away_s + drawn_s, self._hello)

    def _pace(self, told: dict[str, Any]) -> None:
        for name in ("renewInterval", "heartbeatInterval"):
            if name in told:
                self._paces_s[name] = float(told[name].removesuffix("s"))
        self._quiet()
        # An empty renewal is a sign of life as a heartbeat is: one timer does for both.
        self._timers.append(asyncio.create_task(self._renew(min(self._paces_s.values()))))

    async def _renew(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            held = [{"taskId": task_id, "leaseEpoch": epoch} for task_id, epoch in self._leases]
            self._say(renew={"leases": held})

    def _silence(self) -> None:
        self._ready = False
        self._quiet()

    def _quiet(self) -> None:
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
        if key in self._leases:
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
