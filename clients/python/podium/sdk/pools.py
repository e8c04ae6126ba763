"""The threads and processes in which plain handlers run: each agent has its own.

One whose handlers block must not hold up the others.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable

from podium.sdk import attempts
from podium.sdk.agent import Agent
from podium.sdk.context import Context
from podium.sdk.conversation import Outgoing
from podium.sdk.handlers import Handler
from podium.sdk.processes import Processes
from podium.sdk.threads import Threads, aside
from podium.sdk.tracing import Tracer

# Of one agent, however large its capacity.
THREADS_MAX = 64


class Pools:
    """Threads and processes by agent, made when they are needed.

    Args:
        say: is given what handlers in processes say, from any thread.
        tracer: is given their spans.
    """

    def __init__(self, say: Callable[[Outgoing], None], tracer: Tracer) -> None:
        self._say = say
        self._tracer = tracer
        self._processes: dict[str, Processes] = {}
        self._threads: dict[str, Threads] = {}

    async def call_in_thread(
        self, agent: Agent, handler: Handler, arguments: tuple[object, ...], context: Context
    ) -> object:
        """Calls a plain handler in a thread; when it is cancelled, waits until it has returned."""
        call = functools.partial(attempts.call_plainly, handler, arguments, context)
        # The copy carries the current span into the thread.
        run = functools.partial(contextvars.copy_context().run, call)
        future = self._threads_of(agent).submit(run)
        waiting = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            # One that waits for a thread never begins. A thread cannot be stopped: it looks at
            # `context.cancelled`, and its slot stays taken until it returns.
            if not future.cancel():
                await asyncio.wait((waiting,))
                if not waiting.cancelled():
                    waiting.exception()
            raise

    def processes(self, agent: Agent) -> Processes:
        """Returns the processes of an agent."""
        pool = self._processes.get(agent.agent_id)
        if pool is None:
            pool = Processes(agent.processes, self._say, self._tracer)
            self._processes[agent.agent_id] = pool
        return pool

    async def renew(self, agent: Agent) -> None:
        """Lets what begins from now on run in new processes: the others have imported old code."""
        if agent.agent_id in self._processes:
            await aside(functools.partial(self._processes[agent.agent_id].renew, agent.processes))

    async def stop(self) -> None:
        """Begins nothing more, and ends all processes."""
        for threads in self._threads.values():
            threads.close()
        for processes in self._processes.values():
            await aside(processes.stop)

    def _threads_of(self, agent: Agent) -> Threads:
        size = min(THREADS_MAX, agent.capacity)
        pool = self._threads.get(agent.agent_id)
        if pool is None:
            pool = self._threads[agent.agent_id] = Threads(size, "podium-handler")
        pool.size = size  # the agent may have been replaced by one with another capacity
        return pool
