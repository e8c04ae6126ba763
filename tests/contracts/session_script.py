"""The router's side of a session, scripted, and the agents it can be played to."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from podium.v1 import session_pb2, task_pb2
from podium.v1.session_pb2 import LeaseRef, RouterFrame
from services.edge.__main__ import SERVICE as EDGE
from services.edge.config import Settings as EdgeSettings
from services.kernel.clock import SystemClock
from services.kernel.config import load
from services.kernel.options import dial
from services.kernel.serving import running
from tests.contracts.referee import Referee
from tests.contracts.session_agents import (
    AGENT_ID,
    TYPE,
    Begin,
    Conforming,
    client_agent,
    program_agent,
    sdk_agent,
    stubs_agent,
)
from tests.contracts.web_agents import web_agent
from tests.sdk.fakes import FakeRouter, router_of, serving
from tests.support.spelling import BINARY, JSON
from tests.support.waiting import eventually

GIVEN = os.environ.get("PODIUM_CONFORMANCE_AGENT", "")
"""The command of a program to be judged, in place of the agents that are our own."""

NODE = shutil.which("node")
BRIDGED: dict[str, Begin] = {
    "web": web_agent(JSON),
    "web-binary": web_agent(BINARY),
    **({"web-client": client_agent(NODE)} if NODE else {}),
}
"""Agents that have the bridge between them and their router."""
MAKES: dict[str, Begin] = (
    {"program": program_agent(GIVEN)}
    if GIVEN
    else {"sdk": sdk_agent, "stubs": stubs_agent, **BRIDGED}
)
START_S = 30.0
"""How long a program may take to start."""
UNTIL_S = 30.0
"""How long a frame may take that is due."""


@asynccontextmanager
async def bridged(address: str) -> AsyncIterator[str]:
    """Serves a real Edge before the router."""
    settings = dataclasses.replace(load(EdgeSettings, {}), routing_addresses=(address,))
    async with running(EDGE, settings, dial=dial, clock=SystemClock(), port=0) as edge:
        yield f"127.0.0.1:{edge.port}"


class Script:
    """The router's part: what it hears of one agent, and what it says."""

    def __init__(self, router: FakeRouter, agent: Conforming, make: str) -> None:
        self.router = router
        self.agent = agent
        self.make = make
        self._tasks = 0

    def heard(self, kind: str) -> list[Any]:
        return [getattr(frame, kind) for frame in self.router.frames(kind)]

    async def until(self, kind: str, count: int = 1, within_s: float = 0.0) -> list[Any]:
        return await eventually(
            lambda: found if len(found := self.heard(kind)) >= count else None,
            within_s=within_s or UNTIL_S,
            told=lambda: f"{[frame.WhichOneof('frame') for frame in self.router.frames()]}",
        )

    def assign(self, text: str, task_type: str = TYPE) -> LeaseRef:
        self._tasks += 1
        spec = task_pb2.TaskSpec(type=task_type, payload=task_pb2.Payload(data=text.encode()))
        lease = LeaseRef(task_id=f"t{self._tasks}", lease_epoch=self._tasks)
        self.router.assign(
            AGENT_ID, lease.task_id, lease_epoch=lease.lease_epoch, attempt=1, spec=spec
        )
        return lease

    async def taken(self, text: str) -> LeaseRef:
        """Assigns a task and waits until the agent has taken it."""
        lease = self.assign(text)
        await eventually(lambda: lease in [ack.lease for ack in self.heard("ack")])
        return lease

    def repeat(self, lease: LeaseRef, text: str) -> None:
        """Assigns a task that was assigned before, as when nobody knows whether it came."""
        spec = task_pb2.TaskSpec(type=TYPE, payload=task_pb2.Payload(data=text.encode()))
        epoch = lease.lease_epoch
        self.router.assign(AGENT_ID, lease.task_id, lease_epoch=epoch, attempt=1, spec=spec)

    async def answered(self, nonce: int) -> None:
        """Waits until the agent has answered a probe: a measure of its time, not of ours."""
        self.say(probe=session_pb2.Probe(nonce=nonce))
        await eventually(lambda: nonce in [reply.nonce for reply in self.heard("probe_reply")])
        await asyncio.sleep(0.1)

    async def unanswered(self) -> None:
        """Lets pass what an agent might say too early; nothing tells that it says nothing."""
        await asyncio.sleep(0.1)

    def say(self, **frame: Any) -> None:
        self.router.say(RouterFrame(agent_id=AGENT_ID, **frame))

    async def settled(self) -> None:
        """Waits for a task that follows all others, so that whatever was to come has come."""
        lease = self.assign("say so")
        await eventually(lambda: lease in [result.lease for result in self.heard("result")])

    async def reconnected(self) -> Any:
        """Ends the stream and returns the Hello that begins the next one."""
        count = len(self.heard("hello"))
        self.router.end()
        return (await self.until("hello", count + 1))[-1]


@asynccontextmanager
async def scripted(make: str) -> AsyncIterator[Script]:
    """Runs an agent before a router, and judges all it has said."""
    router = FakeRouter()
    router.heartbeat_ms, router.renew_ms = 200, 100
    async with serving(router_of(router)) as address:
        async with bridged(address) if make in BRIDGED else nullcontext(address) as at:
            async with {**BRIDGED, **MAKES}[make](at) as agent:
                yield await _begun(Script(router, agent, make))
    faults = Referee().judge(router.log)
    assert not faults, faults


async def _begun(script: Script) -> Script:
    await script.until("hello", within_s=START_S)
    await eventually(lambda: script.router.streams[-1].agents)
    return script
