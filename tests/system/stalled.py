"""Agents that speak and do not read: `python -m tests.system.stalled <router> <count> <type>`.

Each has a connection of its own, says Hello, reads Ready, and from then on sends heartbeats alone.
"""

from __future__ import annotations

import asyncio
import sys

import grpc.aio

from podium.v1 import routing_pb2, routing_pb2_grpc, session_pb2
from podium.v1.session_pb2 import AgentFrame

SLOTS = 200
BEAT_S = 0.2


async def stall(router: str, agent_id: str, task_type: str) -> None:
    own = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(router, options=own) as channel:
        call = routing_pb2_grpc.RoutingServiceStub(channel).OpenSession()
        hello = session_pb2.Hello(instance_id=agent_id, max_concurrency=SLOTS)
        hello.capabilities.add(name=task_type)
        await say(call, AgentFrame(agent_id=agent_id, hello=hello))
        await call.read()
        print("stalled", flush=True)
        while True:
            await asyncio.sleep(BEAT_S)
            heartbeat = session_pb2.Heartbeat()
            await say(call, AgentFrame(agent_id=agent_id, heartbeat=heartbeat))


async def say(call: grpc.aio.StreamStreamCall, frame: AgentFrame) -> None:
    await call.write(routing_pb2.OpenSessionRequest(frames=[frame]))


async def main(router: str, count: str, task_type: str) -> None:
    names = [f"{task_type}-stalled-{number}" for number in range(int(count))]
    await asyncio.gather(*[stall(router, name, task_type) for name in names])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
