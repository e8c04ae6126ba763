"""Hosts agents: many of them on one stream, their handlers on the program's loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import wait
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any

from podium.sdk import exits, wire
from podium.sdk.agent import Agent
from podium.sdk.children import Submitting
from podium.sdk.conversation import Outgoing
from podium.sdk.identity import Identity, new_instance_id
from podium.sdk.lifespans import Lifespans
from podium.sdk.pulse import Pulse
from podium.sdk.runner import STOP_S_MAX, Runner, check
from podium.sdk.session import GOODBYE_S_MAX, Deliver, Session, first_of
from podium.sdk.settings import Settings
from podium.sdk.threads import aside
from podium.sdk.tracing import Tracer
from podium.v1.session_pb2 import RouterFrame

log = logging.getLogger("podium.sdk.agent")

GRACE_S = 20.0
CLOSE_S_MAX = 3.0
LIFESPAN_S_MAX = 10.0


class AgentHost:
    """Runs agents in this process on one session with a router.

    gRPC runs on a thread of its own: a handler that blocks the loop costs neither the session nor
    a lease. Reconnects for ever; tasks in work go on meanwhile.

    Args:
        agents: at least one, each with an id of its own.
        settings: where the suite is. Default: the environment.
        grace_s: how long `stop` lets running tasks go on.
        inline: let the program's loop do gRPC (see `wire.acquire`).

    Raises:
        ValueError: there is no agent, or two have the same id.
    """

    def __init__(
        self,
        agents: Sequence[Agent],
        *,
        settings: Settings | None = None,
        grace_s: float = GRACE_S,
        inline: bool = False,
    ) -> None:
        if not agents:
            raise ValueError("a host needs at least one agent")
        if len({agent.agent_id for agent in agents}) < len(agents):
            raise ValueError("each agent needs an agent_id of its own")
        self._agents = list(agents)
        self._settings = settings or Settings.from_environment()
        self._grace_s = grace_s
        self._inline = inline
        self._stopping = asyncio.Event()
        self._tracer = Tracer("agent", self._settings)
        self._session: Session | None = None
        self._runner: Runner | None = None
        self._pulse: Pulse | None = None
        self._children: Submitting | None = None
        self._lifespans = Lifespans()
        self._swapping = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> AgentHost:
        """Starts to work and returns when a router has accepted the agents.

        Raises:
            InvalidArgument: the router refuses what an agent says of itself.
        """
        for agent in self._agents:
            # Not of the object, which a program that forks has in several processes.
            agent.instance_id = new_instance_id()
        identities = [agent.identity for agent in self._agents]
        self._tracer.start()
        self._wire = wire.acquire(inline=self._inline)
        try:
            await self._open(identities)
        except BaseException:
            await self._close()
            raise
        names = ", ".join(agent.agent_id for agent in self._agents[:5])
        log.info("%d agents at work for %s: %s", len(identities), self._settings.routing, names)
        return self

    async def _open(self, identities: list[Identity]) -> None:
        for agent_id, opened in (await self._lifespans.open(self._agents)).items():
            self._lifespans.take(agent_id, opened)
        loop = asyncio.get_running_loop()
        speak: Callable[[list[Outgoing]], None] = self._to_session
        deliver: Deliver = self._to_runner
        if not self._inline:
            speak = wire.Mailbox[Outgoing](self._wire.loop, self._to_session).post_all
            deliver = wire.Mailbox[RouterFrame](loop, self._to_runner).post_all
        self._children = Submitting(self._settings, inline=self._inline)
        self._pulse = Pulse()
        self._runner = Runner(
            self._agents, speak, self._tracer, self._children, self._pulse, inline=self._inline
        )

        async def make() -> Session:
            settings = self._settings
            peer = settings.peer("routing")
            return Session(identities, peer, deliver, metadata=lambda: settings.metadata)

        self._session = await self._wire.run(make())
        self._task = asyncio.create_task(self._wire.run(self._session.run()))
        accepted = asyncio.create_task(self._wire.run(self._session.ready.wait()))
        try:
            await first_of(accepted, self._task)
            if self._task.done():
                self._task.result()
        finally:
            accepted.cancel()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finishes what is in work, within the grace, and says goodbye.

        Raises:
            AgentSuperseded: newer instances of all agents had taken over.
        """
        session, task = self._session, self._task
        assert session is not None and task is not None
        try:
            if not task.done():
                await self._wire.run(session.finish(self._grace_s))
        finally:
            await self._close()
        if error is None and task.done() and not task.cancelled():
            task.result()

    async def run(self) -> None:
        """Works until `stop` is called or the task is cancelled, then finishes in order.

        A program that runs it on a loop of its own has Ctrl-C from `asyncio.run`, which cancels,
        and SIGTERM by ``loop.add_signal_handler(signal.SIGTERM, host.stop)``.

        Raises:
            ValueError: an agent handles nothing.
            AgentSuperseded: newer instances of all agents have taken over.
            InvalidArgument: the router refuses what an agent says of itself.
        """
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            # Entering waits for a router for ever, so `stop` must be heard then too.
            entering = asyncio.create_task(self.__aenter__())
            await first_of(entering, stopping)
            if not entering.done():
                entering.cancel()
                await asyncio.wait((entering,))
                return
            entering.result()
            assert self._task is not None
            try:
                await first_of(self._task, stopping)
            finally:
                await self.__aexit__(None, None, None)
        finally:
            stopping.cancel()

    def stop(self) -> None:
        """Makes `run` take nothing new, finish what it has and return."""
        self._stopping.set()

    async def replace(self, agents: Sequence[Agent]) -> None:
        """Lets other handlers work for agents of this host; tasks that run go on as they began.

        Where an agent can do something else than before, the stream is opened anew to say so; no
        lease is lost by it. All of them are replaced or none: one whose lifespan raises leaves the
        others as they were.

        Args:
            agents: by their agent_id each takes the place of the one before.

        Raises:
            ValueError: the host has no such agent, two are the same, or one handles nothing.
            TypeError: another process could not find a handler that is to run in one.
            Exception: what a lifespan raises as it opens.
        """
        assert self._session is not None and self._runner is not None, "the host runs"
        hosted = {agent.agent_id: agent for agent in self._agents}
        if len({agent.agent_id for agent in agents}) < len(agents):
            raise ValueError("each agent needs an agent_id of its own")
        for agent in agents:
            if agent.agent_id not in hosted:
                raise ValueError(f"this host has no agent {agent.agent_id}: start it anew")
            # To the router it is the same instance, which is what keeps its leases.
            agent.instance_id = hosted[agent.agent_id].instance_id
            check(agent)
        identities = [agent.identity for agent in agents]
        opened = await self._lifespans.open(agents)
        # Whoever gives up waiting does not leave some replaced and others not.
        await asyncio.shield(asyncio.create_task(self._swap(agents, identities, opened)))

    async def _swap(
        self,
        agents: Sequence[Agent],
        identities: list[Identity],
        opened: Mapping[str, AsyncExitStack],
    ) -> None:
        assert self._session is not None and self._runner is not None, "the host runs"
        async with self._swapping:
            hosted = {agent.agent_id: agent for agent in self._agents}
            before = [hosted[agent.agent_id].identity for agent in agents]
            for agent in agents:
                running = await self._runner.replace(agent)
                opened_before = self._lifespans.take(agent.agent_id, opened[agent.agent_id])
                if opened_before is not None:
                    self._lifespans.leave(opened_before, running)
                hosted[agent.agent_id] = agent
            self._agents = list(hosted.values())
            if identities != before:
                await self._wire.run(self._session.reintroduce(identities))

    def leave(self) -> bool:
        """Finishes what is in work, within the grace, and says goodbye; blocks meanwhile.

        For another thread, while a handler may hold up the loop of the program; tells whether one
        still runs. What else holds it up, such as a lifespan that closes, has its time.
        """
        if self._session is None or not self._runner:
            return False
        log.warning("a handler holds this program up: what is in work is finished without it")
        if self._inline:
            time.sleep(self._grace_s)
            return bool(self._runner)
        finishing = self._session.finish(self._grace_s)
        finished = asyncio.run_coroutine_threadsafe(finishing, self._wire.loop)
        # Without a result where the wire has stopped meanwhile.
        wait((finished,), self._grace_s + GOODBYE_S_MAX)
        time.sleep(GOODBYE_S_MAX)
        return bool(self._runner)

    @property
    def connected(self) -> bool:
        """Whether a router holds the session now."""
        return self._session is not None and self._session.connected

    async def drop_connection(self) -> None:
        """Ends the stream at once, as a broken network would; for tests and simulations."""
        if self._session is not None:
            await self._wire.run(self._session.drop())

    def _to_session(self, items: list[Outgoing]) -> None:
        assert self._session is not None
        self._session.send(items)

    def _to_runner(self, frames: list[RouterFrame]) -> None:
        assert self._runner is not None
        self._runner.take(frames)

    async def _close(self) -> None:
        if self._session is not None:
            await self._wire.run(self._session.stop())
        if self._task is not None:
            await asyncio.wait((self._task,), timeout=CLOSE_S_MAX)
            self._task.cancel()
        if self._pulse is not None:
            self._pulse.stop()
        if self._runner is not None:
            await self._runner.stop(STOP_S_MAX)
        if self._children is not None:
            await self._children.close()
        await self._lifespans.close(LIFESPAN_S_MAX)
        await wire.release(self._wire)
        await aside(self._tracer.stop)


def run_until_signal(
    host: AgentHost, *, beside: Callable[[], Coroutine[Any, Any, None]] | None = None
) -> None:
    """Runs a host until SIGTERM or Ctrl-C; a second one ends the process at once.

    Handlers that do not stop are left behind some seconds after the grace.

    Args:
        host: what to run.
        beside: runs as long as it does.
    """

    async def run() -> None:
        companion = asyncio.create_task(beside()) if beside is not None else None
        try:
            await host.run()
        finally:
            if companion is not None:
                companion.cancel()

    with exits.closing(asyncio.Runner(loop_factory=wire.new_loop)) as runner:

        def stop() -> None:
            log.info("finishing what is in work; once more to stop at once")
            host.stop()

        with exits.on_signal(runner.get_loop(), stop, host.leave):
            runner.run(run())
