"""The stream to the registry: what happens to sessions out, directives about agents in."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio

from podium.v1 import agent_pb2, agent_registry_pb2_grpc
from services.kernel.coalesce import Outbox
from services.kernel.options import Dial
from services.kernel.writing import write
from services.routing.adapters.desk import RouterDesk
from services.routing.adapters.facts import Fact, Facts

outbox_len_max = 65_536
linger_s = 0.05
"""Facts are for statistics and health: they can gather for longer than assignments. Who comes is
told at once: it waits for the answer."""


class RegistryLink:
    """Holds the stream to the registry; without it work goes on under the last directives."""

    peer = "AgentRegistry"

    def __init__(self, address: str, dial: Dial, desk: RouterDesk, facts: Facts) -> None:
        self._channel = dial(address)
        self._desk = desk
        self._facts = facts

    async def close(self) -> None:
        """Give the channel back."""
        await self._channel.close()

    async def serve(self) -> None:
        """Hold the stream until it ends."""
        desk = self._desk
        stub = agent_registry_pb2_grpc.AgentRegistryServiceStub(self._channel)
        outbox: Outbox[Fact] = Outbox(
            queue_len_max=outbox_len_max, batch_len_max=1_000, linger_s=linger_s
        )
        standings = desk.router.standings
        standings.seek(desk.now())
        call: Any = stub.SyncSessions()
        desk.registry = outbox
        writer = asyncio.create_task(self._write(call, outbox))
        try:
            async for response in call:
                for directive in response.directives:
                    desk.router.attendance.rivals(
                        directive.agent_id,
                        directive.instance_id,
                        tuple(directive.superseded_instance_ids),
                        desk.now(),
                    )
                    standings.directive(
                        directive.agent_id,
                        breaker=agent_pb2.Agent.Breaker.Name(directive.breaker)[8:],
                        draining=directive.draining,
                        quarantined=directive.quarantined,
                        reason=directive.reason,
                        instance_id=directive.instance_id,
                    )
                if response.answer:
                    standings.answered(response.answer, desk.now())
                desk.touch()
        finally:
            desk.registry = None
            standings.lost()
            outbox.close()
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            call.cancel()

    async def _write(self, call: grpc.aio.StreamStreamCall[Any, Any], outbox: Outbox[Fact]) -> None:
        router = self._desk.router
        sessions = router.board.sessions.values()
        await write(call, self._facts.snapshot(sessions, router.standings.asks))
        async for batch in outbox.batches():
            for request in self._facts.requests(batch):
                await write(call, request)
