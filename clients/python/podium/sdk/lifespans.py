"""What the agents of a host have open: each until the last task that began with it has ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from contextlib import AsyncExitStack
from weakref import WeakSet

from podium.sdk.agent import Agent

log = logging.getLogger("podium.sdk.agent")


class Lifespans:
    """Opens what handlers share, and closes it."""

    def __init__(self) -> None:
        self._stacks: dict[str, AsyncExitStack] = {}
        self._closing: set[asyncio.Task[None]] = set()
        # Tasks that use what was opened before what they are named with.
        self._earlier: WeakSet[asyncio.Task[None]] = WeakSet()

    async def open(self, agent: Agent) -> AsyncExitStack | None:
        """Opens what an agent's handlers share.

        Returns:
            what an agent of the same id has open until now, for `leave`.
        """
        stack = AsyncExitStack()
        await stack.enter_async_context(agent.opened())
        before = self._stacks.pop(agent.agent_id, None)
        self._stacks[agent.agent_id] = stack
        return before

    def leave(self, stack: AsyncExitStack, running: Collection[asyncio.Task[None]]) -> None:
        """Closes what was open once all that began while it was have ended."""
        users = [task for task in running if task not in self._earlier]
        self._earlier.update(users)

        async def close() -> None:
            if users:
                await asyncio.wait(users)
            try:
                await stack.aclose()
            except Exception:
                log.exception("what an agent had open until its code changed is not closed well")

        task = asyncio.create_task(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Closes everything, what was opened last first."""
        if self._closing:
            await asyncio.wait(self._closing)
        async with AsyncExitStack() as stacks:
            for stack in self._stacks.values():
                stacks.push_async_callback(stack.aclose)
            self._stacks = {}
