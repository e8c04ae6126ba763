"""What the agents of a host have open: each until the last task that began with it has ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from weakref import WeakSet

from podium.sdk.agent import Agent

log = logging.getLogger("podium.sdk.agent")

MOMENT_S = 0.5


class Lifespans:
    """Opens what handlers share, and closes it."""

    def __init__(self) -> None:
        self._stacks: dict[str, AsyncExitStack] = {}
        self._closing: set[asyncio.Task[None]] = set()
        # Tasks that use what was opened before what they are named with.
        self._earlier: WeakSet[asyncio.Task[None]] = WeakSet()

    async def open(self, agents: Sequence[Agent]) -> Mapping[str, AsyncExitStack]:
        """Opens what the handlers of some agents share: of all of them, or of none.

        Returns:
            what is open now by agent_id, for `take`.

        Raises:
            Exception: what a lifespan raises; those that were open by then are closed.
        """
        opened: dict[str, AsyncExitStack] = {}
        try:
            for agent in agents:
                stack = opened[agent.agent_id] = AsyncExitStack()
                await stack.enter_async_context(agent.opened())
        except BaseException:
            for stack in reversed(opened.values()):
                await _closed(stack, "what was open before another lifespan failed")
            raise
        return opened

    def take(self, agent_id: str, stack: AsyncExitStack) -> AsyncExitStack | None:
        """Keeps open what an agent's handlers share from now on.

        Returns:
            what it had open until now, for `leave`.
        """
        before = self._stacks.pop(agent_id, None)
        self._stacks[agent_id] = stack
        return before

    def leave(self, stack: AsyncExitStack, running: Collection[asyncio.Task[None]]) -> None:
        """Closes what was open once all that began while it was have ended."""
        users = [task for task in running if task not in self._earlier]
        self._earlier.update(users)

        async def close() -> None:
            if users:
                await asyncio.wait(users)
            await _closed(stack, "what an agent had open until its code changed")

        task = asyncio.create_task(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self, within_s: float) -> None:
        """Closes everything, what was opened last first.

        Args:
            within_s: how long it may take; what takes longer is cancelled and left. Each agent has
                a moment in any case.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + within_s

        # In this task: what was opened in it may have to be closed in it.
        async def close(agent_id: str, stack: AsyncExitStack) -> None:
            try:
                async with asyncio.timeout_at(max(deadline_s, loop.time() + MOMENT_S)) as limit:
                    await stack.aclose()
            except TimeoutError:
                if not limit.expired():
                    raise
                log.error("what %s has open does not close: it is left behind", agent_id)

        if self._closing:
            await asyncio.wait(self._closing, timeout=within_s)
        async with AsyncExitStack() as stacks:
            for agent_id, stack in self._stacks.items():
                stacks.push_async_callback(close, agent_id, stack)
            self._stacks = {}


async def _closed(stack: AsyncExitStack, what: str) -> None:
    try:
        await stack.aclose()
    except Exception:
        log.exception("%s is not closed well", what)
