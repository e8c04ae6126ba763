"""A fleet that arrives at once at a router whose other agents are at work.

Run as a process of its own: `python -m tests.bench.herd ADDRESS PREFIX STREAMS AGENTS`. It prints
`ready`, waits for SIGUSR1, and then lets AGENTS say Hello on STREAMS; each that is asked to come
back does so. At the end it prints `in SECONDS ASKED` for each agent: when it was let in, from the
signal on, and how often it had been asked to come back; and then `all`.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from typing import Any

import grpc.aio
import uvloop

from podium.v1 import routing_pb2, routing_pb2_grpc, session_pb2
from tests.bench.crowd import OPTIONS

HELLOS_LEN_MAX = 250
"""Hellos in a message."""
ASKED_EVERY_S = 0.05
"""Between an answer and the next question: less than half of what a router takes of an agent."""


class Bridge:
    """A stream of many agents, or of one."""

    def __init__(self, address: str, agent_ids: list[str]) -> None:
        self._agent_ids = agent_ids
        self._channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        self.told: list[tuple[float, int]] = []
        self._asked = dict.fromkeys(agent_ids, 0)
        self._writing = asyncio.Lock()
        self._coming: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        """Be connected, without a stream."""
        await self._channel.channel_ready()

    async def arrive(self) -> None:
        """Let all agents say Hello, and wait until they are in."""
        from_s = time.monotonic()
        left = set(self._agent_ids)
        while left:
            self._call: Any = routing_pb2_grpc.RoutingServiceStub(self._channel).OpenSession()
            try:
                await self._stay(left, from_s)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await asyncio.sleep(1.0 + random.random() / 4)
                for agent_id in left:
                    self._asked[agent_id] += 1

    async def _stay(self, left: set[str], from_s: float) -> None:
        await self._hello(*left)
        while left:
            response = await self._call.read()
            if response is grpc.aio.EOF:
                return
            for frame in response.frames:
                if frame.HasField("ready"):
                    left.discard(frame.agent_id)
                    self.told.append((time.monotonic() - from_s, self._asked[frame.agent_id]))
                elif frame.HasField("refusal"):
                    self._asked[frame.agent_id] += 1
                    later_s = frame.refusal.retry_after.ToMilliseconds() / 1e3
                    self._soon(self._again(frame.agent_id, later_s))
                elif frame.HasField("probe"):
                    reply = session_pb2.ProbeReply(nonce=frame.probe.nonce)
                    said = session_pb2.AgentFrame(agent_id=frame.agent_id, probe_reply=reply)
                    self._soon(self._say(said))

    def _soon(self, saying: Any) -> None:
        task = asyncio.create_task(saying)
        self._coming.add(task)
        task.add_done_callback(self._coming.discard)

    async def _again(self, agent_id: str, later_s: float) -> None:
        await asyncio.sleep(later_s * random.uniform(1.0, 1.25))
        await self._hello(agent_id)

    async def _hello(self, *agent_ids: str) -> None:
        frames = [
            session_pb2.AgentFrame(
                agent_id=agent_id,
                hello=session_pb2.Hello(instance_id=agent_id, capabilities=[{"name": "herd"}]),
            )
            for agent_id in agent_ids
        ]
        for first in range(0, len(frames), HELLOS_LEN_MAX):
            await self._say(*frames[first : first + HELLOS_LEN_MAX])

    async def _say(self, *frames: session_pb2.AgentFrame) -> None:
        async with self._writing:
            await self._call.write(routing_pb2.OpenSessionRequest(frames=frames))


class Calm:
    """An agent that is there already: it renews nothing, over and over, and notes what that takes.

    Nothing is said and answered more often than this by agents at work.
    """

    def __init__(self, address: str, agent_id: str) -> None:
        self._agent_id = agent_id
        self._channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        self.answers: list[tuple[float, float]] = []
        """When each question was asked, and the seconds until it was answered."""

    async def run(self) -> None:
        """Ask for ever."""
        call: Any = routing_pb2_grpc.RoutingServiceStub(self._channel).OpenSession()
        hello = session_pb2.Hello(instance_id="calm", capabilities=[{"name": "calm"}])
        await self._say(call, hello=hello)
        asked_s = 0.0
        try:
            while (response := await call.read()) is not grpc.aio.EOF:
                if asked_s and any(frame.HasField("renew_ack") for frame in response.frames):
                    self.answers.append((asked_s, time.monotonic() - asked_s))
                    await asyncio.sleep(ASKED_EVERY_S)
                asked_s = time.monotonic()
                await self._say(call, renew=session_pb2.Renew())
        finally:
            await self._channel.close()

    async def _say(self, call: Any, **said: Any) -> None:
        frame = session_pb2.AgentFrame(agent_id=self._agent_id, **said)
        await call.write(routing_pb2.OpenSessionRequest(frames=[frame]))


async def run(address: str, prefix: str, streams: int, agents: int) -> None:
    """Arrive when told to, and stay until the process ends."""
    share = agents // streams
    bridges = [
        Bridge(address, [f"{prefix}-{bridge}-{number}" for number in range(share)])
        for bridge in range(streams)
    ]
    for bridge in bridges:
        await bridge.connect()
    go = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, go.set)
    print("ready", flush=True)
    await go.wait()
    await asyncio.gather(*(bridge.arrive() for bridge in bridges))
    print("\n".join(f"in {at:.4f} {asked}" for each in bridges for at, asked in each.told))
    print("all", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
