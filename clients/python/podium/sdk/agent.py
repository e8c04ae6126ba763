"""Agents as programs write them: handlers by task type.

::

    agent = Agent("summarizer", capacity=4)

    @agent.handles("text.summarize")
    async def summarize(text: str, task: Context) -> dict[str, str]:
        ...

    agent.main()
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from podium.sdk.handlers import POOL_PROCESS, Handler, Pool
from podium.sdk.identity import Identity, new_instance_id
from podium.sdk.pace import Pace
from podium.sdk.settings import Settings
from podium.sdk.versions import plain
from podium.v1 import agent_pb2, task_pb2

H = TypeVar("H", bound=Callable[..., Any])
L = TypeVar("L", bound=Callable[[], AsyncIterator[None]])

CAPACITY_MAX = 1_000
_NAME = re.compile(r"[a-z0-9][a-z0-9._:-]{0,63}")
_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")


class Agent:
    """A worker: what it can do and how much at once.

    Args:
        name: for people, and part of the id.
        agent_id: who it is, stable over restarts, `[a-z0-9-]`; the same id started twice means
            that the newer instance takes over. Default: the name and the host's name.
        capacity: tasks it works on at once, 1 to 1,000.
        labels: free key-value pairs, to find it by.
        cost_per_task: money a task in the fleet's unit, for routing.
        cost_per_kilotoken: money for 1,000 tokens, likewise.
        build_id: version of its program.
        processes: how many processes handlers with ``pool="process"`` may use. Default: as many
            as the machine has processors, and at most `capacity`.

    Raises:
        ValueError: `capacity` or `agent_id` is outside of that.
    """

    def __init__(
        self,
        name: str,
        *,
        agent_id: str = "",
        capacity: int = 1,
        labels: Mapping[str, str] | None = None,
        cost_per_task: float = 0.0,
        cost_per_kilotoken: float = 0.0,
        build_id: str = "",
        processes: int = 0,
    ) -> None:
        if not 1 <= capacity <= CAPACITY_MAX:
            raise ValueError(f"capacity is 1 to {CAPACITY_MAX}, not {capacity}")
        self.name = name
        self.agent_id = agent_id or _default_id(name)
        if not _ID.fullmatch(self.agent_id):
            raise ValueError(f"agent_id {self.agent_id!r} is not of [a-z0-9-], 1 to 64 characters")
        self.capacity = capacity
        self.labels = dict(labels or {})
        self.cost_per_task = cost_per_task
        self.cost_per_kilotoken = cost_per_kilotoken
        self.build_id = build_id
        self.processes = processes or min(capacity, os.cpu_count() or 1)
        # Of its present start: an AgentHost that begins gives it another.
        self.instance_id = new_instance_id()
        self._handlers: dict[str, Handler] = {}
        self._capabilities: dict[str, agent_pb2.Capability] = {}
        self._lifespans: list[Callable[[], AbstractAsyncContextManager[None]]] = []

    def handles(
        self,
        task_type: str,
        *,
        proficiency: float = 1.0,
        version: str = "",
        pool: Pool = "thread",
        rate_per_s: float = 0.0,
        burst: int = 1,
    ) -> Callable[[H], H]:
        """Declares the decorated function as the handler of a task type.

        The function takes the payload, as its first parameter is annotated (bytes, str, a
        dataclass, a pydantic model, another type that `schema` understands, or plain JSON data),
        and optionally a `Context`. What it returns is the result; a function that yields returns
        its result piece by piece (see `partials`).

        Args:
            task_type: the type, which is also the capability that tasks require.
            proficiency: how good the agent is at it, 0 to 1.
            version: of the skill, as "2.1"; tasks may ask for a least one.
            pool: where a function that is not async runs: "thread", or "process" for work that
                would hold the interpreter. Then it must be at the top level of a module.
            rate_per_s: starts a second; 0 = no limit. Tasks above it wait here for a moment and
                then go back to the queue, without an attempt.
            burst: starts that may come at once after a quiet time.

        Raises:
            ValueError: it is no task type, or has a handler already, or a rate makes no sense.
            TypeError: the function takes what no payload can be.
        """
        pace = Pace(rate_per_s, burst) if rate_per_s else None

        def decorate(function: H) -> H:
            # Annotations may name what the function's surroundings define.
            scope = sys._getframe(1).f_locals
            handler = Handler.of(function, pool=pool, pace=pace, scope=scope)
            self.declare(task_type, handler, proficiency=proficiency, version=version)
            return function

        self._check_free(task_type)
        return decorate

    def declare(
        self, task_type: str, handler: Handler, *, proficiency: float = 1.0, version: str = ""
    ) -> None:
        """Declares a handler that was made otherwise than by `handles`.

        Raises:
            ValueError: it is no task type, or has a handler already.
        """
        self._check_free(task_type)
        self._handlers[task_type] = handler
        self._capabilities[task_type] = agent_pb2.Capability(
            name=task_type, proficiency=proficiency, version=version
        )

    def _check_free(self, task_type: str) -> None:
        if not _NAME.fullmatch(task_type):
            raise ValueError(f"{task_type!r} is not a task type: [a-z0-9][a-z0-9._:-]*, up to 64")
        if task_type in self._handlers:
            raise ValueError(f"{task_type} has a handler already")

    def lifespan(self, function: L) -> L:
        """Declares what is open while the agent works: an async generator that yields once.

        What is before the yield runs before the first task, what is after it when the last one has
        ended; for connections and models that handlers share.
        """
        self._lifespans.append(asynccontextmanager(function))
        return function

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Opens what its handlers share; for whoever runs them."""
        async with AsyncExitStack() as stack:
            for lifespan in self._lifespans:
                await stack.enter_async_context(lifespan())
            yield

    def handler_for(self, spec: task_pb2.TaskSpec) -> Handler | None:
        """Returns the handler of a task: by its type, else by a capability that it requires."""
        handler = self._handlers.get(spec.type)
        if handler is None:
            for capability in map(plain, spec.required_capabilities):
                if capability in self._handlers:
                    return self._handlers[capability]
        return handler

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """Its handlers by task type."""
        return self._handlers

    @property
    def versions(self) -> Mapping[str, str]:
        """The version of each of its task types; "" where it names none."""
        return {name: capability.version for name, capability in self._capabilities.items()}

    @property
    def identity(self) -> Identity:
        """What it says of itself on the wire.

        Raises:
            ValueError: it handles nothing yet.
        """
        if not self._capabilities:
            raise ValueError(f"agent {self.name} handles nothing: decorate a function with handles")
        return Identity(
            agent_id=self.agent_id,
            capabilities=tuple(self._capabilities.values()),
            name=self.name,
            max_concurrency=self.capacity,
            labels=self.labels,
            cost_per_task=self.cost_per_task,
            cost_per_kilotoken=self.cost_per_kilotoken,
            build_id=self.build_id,
            instance_id=self.instance_id,
        )

    async def run(self, settings: Settings | None = None) -> None:
        """Works until it is cancelled, as a part of a program with a loop of its own.

        Being cancelled it finishes what it has for 20 seconds and says goodbye, so Ctrl-C under
        `asyncio.run` does. SIGTERM ends such a program without a word, as it ends any: `main`
        obeys it, or an `AgentHost` whose `stop` the program calls. Nor is a program's own loop
        kept from waiting for handlers that do not stop; `main` leaves them behind.

        Raises:
            ValueError: it handles nothing.
            AgentSuperseded: a newer instance has taken over.
            InvalidArgument: the router refuses what it says of itself.
            PermissionDenied: the token does not let it be this agent.
        """
        # host imports this module.
        from podium.sdk.host import AgentHost  # noqa: PLC0415 - a cycle otherwise

        await AgentHost([self], settings=settings).run()

    def main(self, settings: Settings | None = None) -> None:
        """Works until SIGTERM or Ctrl-C, then finishes what it has; for a program's last line.

        Tells what it does on stderr, unless the program has set up its logging.

        Raises:
            ValueError: it handles nothing.
            AgentSuperseded: a newer instance has taken over.
            InvalidArgument: the router refuses what it says of itself.
            PermissionDenied: the token does not let it be this agent.
        """
        if multiprocessing.current_process().name == POOL_PROCESS:
            return  # a process of the pool imports the program for its handlers alone
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%X")
        # As in `run`.
        from podium.sdk.host import AgentHost, run_until_signal  # noqa: PLC0415 - a cycle otherwise

        run_until_signal(AgentHost([self], settings=settings))


def _default_id(name: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", f"{name}-{socket.gethostname()}".lower())
    return words[:64].strip("-")
