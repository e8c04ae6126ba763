"""Many agents on connections of their own, as small as can be: they hold what they are given.

Run as a process of its own: `python -m tests.bench.crowd ADDRESS PREFIX COUNT TYPE`. It prints
`all` when every agent has been accepted, and `back SECONDS KEPT` for each that returns after a
loss: when, on the monotonic clock, which processes of a machine share, and how many leases it kept.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from typing import Any

import grpc.aio
import uvloop

from podium.v1 import routing_pb2, routing_pb2_grpc, session_pb2

OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 500),
]
RETURN_S_MAX = 0.1
"""A first return is spread over this, as the SDK does it."""
BEAT_SHARE = 0.9
"""Of the interval, after which a heartbeat is due: it is looked for in steps."""
OPENING_LEN_MAX = 50
"""Agents that open at once at the start: how fast a fleet begins is not what is measured."""


class Member:
    """One agent."""

    def __init__(self, address: str, agent_id: str, task_type: str) -> None:
        self._agent_id = agent_id
        self._task_type = task_type
        self._leases: dict[str, int] = {}
        self._lost = False
        self._call: Any = None
        self._stub = routing_pb2_grpc.RoutingServiceStub(
            grpc.aio.insecure_channel(address, options=OPTIONS)
        )
        self.accepted = asyncio.Event()
        self._beat_s = 0.0
        self._spoke_s = 0.0

    async def run(self) -> None:
        """Stay for ever."""
        while True:
            try:
                await self._stay()
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
                pass
            self._lost = True
            self._call = None
            await asyncio.sleep(random.uniform(0, RETURN_S_MAX))

    async def beat(self) -> None:
        """Send a heartbeat if nothing else was said, and renew what is held."""
        if self._call is not None and self.accepted.is_set():
            frames = []
            if time.monotonic() - self._spoke_s >= self._beat_s:
                frames.append(self._frame(heartbeat=session_pb2.Heartbeat()))
            if self._leases:
                frames.append(self._frame(renew=session_pb2.Renew(leases=self._refs())))
            if frames:
                await self._say(*frames)

    async def _stay(self) -> None:
        call = self._stub.OpenSession(wait_for_ready=True)
        hello = session_pb2.Hello(
            instance_id=self._agent_id,
            max_concurrency=1,
            capabilities=[{"name": self._task_type}],
            in_flight=self._refs(),
        )
        self._call = call
        await self._say(self._frame(hello=hello))
        while (response := await call.read()) is not grpc.aio.EOF:
            for frame in response.frames:
                await self._take(frame)

    async def _take(self, frame: session_pb2.RouterFrame) -> None:
        kind = frame.WhichOneof("frame")
        if kind in ("ready", "tune"):
            told_s = getattr(frame, kind).heartbeat_interval.ToTimedelta().total_seconds()
            self._beat_s = told_s * BEAT_SHARE or self._beat_s
        if kind == "ready":
            if self._lost:
                keep = session_pb2.LeaseVerdict.VERDICT_KEEP
                kept = sum(each.verdict == keep for each in frame.ready.verdicts)
                print(f"back {time.monotonic():.4f} {kept}", flush=True)
            self.accepted.set()
        elif kind == "assign":
            self._leases[frame.assign.task_id] = frame.assign.lease_epoch
            ref = session_pb2.LeaseRef(
                task_id=frame.assign.task_id, lease_epoch=frame.assign.lease_epoch
            )
            await self._say(self._frame(ack=session_pb2.Ack(lease=ref)))
        elif kind == "probe":
            reply = session_pb2.ProbeReply(nonce=frame.probe.nonce)
            await self._say(self._frame(probe_reply=reply))
        elif kind == "cancel":
            self._leases.pop(frame.cancel.lease.task_id, None)

    async def _say(self, *frames: session_pb2.AgentFrame) -> None:
        self._spoke_s = time.monotonic()
        await self._call.write(routing_pb2.OpenSessionRequest(frames=frames))

    def _frame(self, **given: Any) -> session_pb2.AgentFrame:
        return session_pb2.AgentFrame(agent_id=self._agent_id, **given)

    def _refs(self) -> list[session_pb2.LeaseRef]:
        return [
            session_pb2.LeaseRef(task_id=task_id, lease_epoch=epoch)
            for task_id, epoch in self._leases.items()
        ]


async def run(address: str, prefix: str, count: int, task_type: str, beat_s: float) -> None:
    """Be a crowd until the process ends."""
    members = [Member(address, f"{prefix}-{number}", task_type) for number in range(count)]
    staying = []
    for first in range(0, count, OPENING_LEN_MAX):
        some = members[first : first + OPENING_LEN_MAX]
        staying += [asyncio.create_task(member.run()) for member in some]
        await asyncio.gather(*(member.accepted.wait() for member in some))
    print("all", flush=True)
    while True:
        for member in members:
            await asyncio.sleep(beat_s / count)
            try:
                await member.beat()
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
                continue  # its own task opens the next stream


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], float(sys.argv[5])))
