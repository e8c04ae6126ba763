"""A lean host of simulated agents: no handlers, no threads, no asyncio task per task.

It shares the session with the SDK's own host, and answers a task that takes no time with Ack and
Result in one message.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections.abc import Sequence
from typing import NamedTuple

from podium.sdk.conversation import Outgoing
from podium.sdk.identity import Identity
from podium.sdk.leases import Key
from podium.sdk.session import Session
from podium.sdk.settings import Settings
from podium.sdk.spans import format_traceparent
from podium.sdk.tracing import Ids, Tracer, child_of
from podium.sim.profiles import Behaviour, Worker
from podium.v1 import agent_pb2, session_pb2, task_pb2
from podium.v1.session_pb2 import AgentFrame, LeaseRef

DONE = task_pb2.Payload(content_type="text/plain", data=b"ok")
FAILURE = task_pb2.Failure(
    reason="SIMULATED_ERROR", message="this attempt was drawn to fail", retryable=True
)
# Timers of one turn are served together.
RESOLUTION_S = 0.001


class Member(NamedTuple):
    """One simulated agent of a host."""

    agent_id: str
    capabilities: tuple[str, ...]
    capacity: int
    worker: Worker
    labels: dict[str, str]

    @property
    def identity(self) -> Identity:
        """What it says of itself."""
        return Identity(
            agent_id=self.agent_id,
            capabilities=[agent_pb2.Capability(name=name) for name in self.capabilities],
            name=self.agent_id,
            max_concurrency=self.capacity,
            labels=self.labels,
        )


class Running(NamedTuple):
    """An attempt in progress."""

    agent_id: str
    task_type: str
    attempt: int
    ids: Ids
    parent_id: int
    start_ns: int


class SimHost:
    """Simulated agents on one stream with a router. Lives on the loop that does gRPC.

    Args:
        members: the agents.
        settings: where the suite is.
        tracer: is given the execute spans.
        behaviour: what goes wrong with the host as a whole: lost streams and freezes.
        seed: of when that is.
        own_connection: share no connection with other hosts of the process.
    """

    def __init__(
        self,
        members: Sequence[Member],
        settings: Settings,
        tracer: Tracer,
        *,
        behaviour: Behaviour | None = None,
        seed: int = 0,
        own_connection: bool = False,
    ) -> None:
        self._behaviour = behaviour or Behaviour()
        self._draw = random.Random(seed)
        self._members = {member.agent_id: member for member in members}
        self._tracer = tracer
        self._loop = asyncio.get_running_loop()
        self._running: dict[Key, Running] = {}
        self._due: list[tuple[float, Key]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0
        self.completed_count = 0
        self.failed_count = 0
        self.session = Session(
            [member.identity for member in members],
            settings.peer("routing"),
            self._take,
            metadata=lambda: settings.metadata,
            own_connection=own_connection,
        )

    async def run(self) -> None:
        """Works until it is cancelled or `session.finish` is called."""
        faults = [
            asyncio.create_task(self._disconnect()),
            asyncio.create_task(self._freeze()),
        ]
        try:
            await self.session.run()
        finally:
            for fault in faults:
                fault.cancel()
            if self._timer is not None:
                self._timer.cancel()

    async def _disconnect(self) -> None:
        every_s = self._behaviour.disconnect_every_s
        while every_s:
            await asyncio.sleep(self._draw.expovariate(1 / every_s))
            await self.session.drop()

    async def _freeze(self) -> None:
        every_s = self._behaviour.freeze_every_s
        while every_s:
            await asyncio.sleep(self._draw.expovariate(1 / every_s))
            # The process stands still as a whole, as under a debugger or in swap; its kernel goes
            # on acknowledging.
            time.sleep(self._behaviour.freeze_s)  # noqa: ASYNC251 - on purpose

    def _take(self, frames: list[session_pb2.RouterFrame]) -> None:
        said: list[Outgoing] = []
        now_s = self._loop.time()
        for frame in frames:
            kind = frame.WhichOneof("frame")
            if kind == "assign":
                self._begin(frame.agent_id, frame.assign, now_s, said)
            elif kind == "cancel":
                self._cancel(frame, said)
        if said:
            self.session.send(said)

    def _begin(
        self, agent_id: str, assign: session_pb2.Assign, now_s: float, said: list[Outgoing]
    ) -> None:
        worker = self._members[agent_id].worker
        key = (assign.task_id, assign.lease_epoch)
        if not worker.instant and not worker.acks():
            return
        ref = LeaseRef(task_id=key[0], lease_epoch=key[1])
        said.append(("ack", key, AgentFrame(agent_id=agent_id, ack=session_pb2.Ack(lease=ref))))
        ids, parent_id = child_of(assign.traceparent)
        spec_type = assign.spec.type
        running = Running(agent_id, spec_type, assign.attempt, ids, parent_id, time.time_ns())
        if worker.instant:
            said.append(self._result(key, running, succeeded=True))
            return
        self._running[key] = running
        due_s = now_s + worker.duration_s(spec_type, now_s)
        heapq.heappush(self._due, (due_s, key))
        self._arm()

    def _cancel(self, frame: session_pb2.RouterFrame, said: list[Outgoing]) -> None:
        ref = frame.cancel.lease
        key = (ref.task_id, ref.lease_epoch)
        running = self._running.pop(key, None)
        if running is not None and frame.cancel.reason != "LEASE_LOST":
            result = session_pb2.Result(lease=ref, canceled=session_pb2.Canceled())
            said.append(("result", key, AgentFrame(agent_id=running.agent_id, result=result)))

    def _result(self, key: Key, running: Running, *, succeeded: bool) -> Outgoing:
        result = session_pb2.Result(
            lease=LeaseRef(task_id=key[0], lease_epoch=key[1]),
            success=DONE if succeeded else None,
            failure=None if succeeded else FAILURE,
            traceparent=format_traceparent(*running.ids),
        )
        attributes = (
            ("task.id", key[0]),
            ("task.type", running.task_type),
            ("agent.id", running.agent_id),
            ("task.attempt", running.attempt),
        )
        error = "" if succeeded else FAILURE.reason
        self._tracer.record(
            running.ids, running.parent_id, "execute", running.start_ns, attributes, error
        )
        self.completed_count += succeeded
        self.failed_count += not succeeded
        return "result", key, AgentFrame(agent_id=running.agent_id, result=result)

    def _arm(self) -> None:
        if not self._due:
            return
        due_s = self._due[0][0]
        if self._timer is not None:
            if due_s >= self._timer_s - RESOLUTION_S:
                return
            self._timer.cancel()
        # Kept here, since uvloop's handle does not tell it.
        self._timer_s = due_s
        self._timer = self._loop.call_at(due_s, self._finish_due)

    def _finish_due(self) -> None:
        self._timer = None
        said: list[Outgoing] = []
        now_s = self._loop.time() + RESOLUTION_S
        while self._due and self._due[0][0] <= now_s:
            _, key = heapq.heappop(self._due)
            running = self._running.pop(key, None)
            if running is not None:
                worker = self._members[running.agent_id].worker
                said.append(self._result(key, running, succeeded=worker.succeeds()))
        if said:
            self.session.send(said)
        self._arm()
