"""Many agents of the SDK, one or more to a connection, which hold what they are given.

Run as a process of its own: `python -m tests.bench.sessions ADDRESS PREFIX COUNT TYPE TOGETHER`,
with so many agents to a connection. It prints `all` when every agent has been accepted, and
`back SECONDS KEPT WHICH` for each that returns after a loss: when, on the monotonic clock, which
processes of a machine share, and how many leases came with it, those of a connection with its
first agent.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence

import uvloop

from podium.sdk.errors import Peer
from podium.sdk.identity import Identity
from podium.sdk.link import Link
from podium.sdk.session import Session
from podium.v1 import agent_pb2, session_pb2
from podium.v1.session_pb2 import AgentFrame, RouterFrame

OPENING_LEN_MAX = 50
"""Agents that open at once at the start: how fast a fleet begins is not what is measured."""


class Member(Session):
    """Agents of a host, as the SDK speaks for them; they begin each task and never end one."""

    def __init__(self, address: str, agent_ids: Sequence[str], task_type: str) -> None:
        skills = (agent_pb2.Capability(name=task_type),)
        identities = [Identity(agent_id=agent_id, capabilities=skills) for agent_id in agent_ids]
        peer = Peer("Routing", address, "PODIUM_ROUTING_ADDRESS")
        super().__init__(identities, peer, self._begin, own_connection=True)
        self._agent_ids = agent_ids

    def _begin(self, frames: list[RouterFrame]) -> None:
        for frame in frames:
            if frame.HasField("assign"):
                key = (frame.assign.task_id, frame.assign.lease_epoch)
                lease = session_pb2.LeaseRef(task_id=key[0], lease_epoch=key[1])
                ack = AgentFrame(agent_id=frame.agent_id, ack=session_pb2.Ack(lease=lease))
                self.send([("ack", key, ack)])

    async def _connect(self, peer: Peer, lost_s: float) -> Link:
        link = await super()._connect(peer, lost_s)
        if self.connect_count > 1:
            kept, at_s = len(self.talk.leases), time.monotonic()
            for agent_id in self._agent_ids:
                print(f"back {at_s:.4f} {kept} {agent_id}/{self.connect_count}")
                kept = 0
            sys.stdout.flush()
        return link


async def run(address: str, prefix: str, count: int, task_type: str, together: int) -> None:
    """Be a fleet until the process ends."""
    names = [f"{prefix}-{number}" for number in range(count)]
    members = [
        Member(address, names[first : first + together], task_type)
        for first in range(0, count, together)
    ]
    staying = []
    for first in range(0, len(members), OPENING_LEN_MAX):
        some = members[first : first + OPENING_LEN_MAX]
        staying += [asyncio.create_task(member.run()) for member in some]
        await asyncio.gather(*(member.ready.wait() for member in some))
    print("all", flush=True)
    await asyncio.gather(*staying)


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5])))
