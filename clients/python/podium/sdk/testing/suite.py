"""A whole journey in one process: agents, a small scheduler and router, a clock that stands still.

::

    async with Suite(agent) as suite:
        task = await suite.submit("text.shout", "hello")
        assert await task.result() == "HELLO"

Handlers run exactly as a host runs them. The clock moves when a test says so, and by itself when
someone waits for a result and nothing but time is missing, such as the wait before a retry. What
handlers do with time themselves (`asyncio.sleep`, `rate_per_s`) takes real time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, TypeVar, Unpack

from podium.sdk import payloads, specs
from podium.sdk.agent import Agent
from podium.sdk.conversation import Outgoing
from podium.sdk.runner import Runner
from podium.sdk.settings import Settings
from podium.sdk.spans import format_traceparent
from podium.sdk.specs import SubmitOptions
from podium.sdk.testing import rules
from podium.sdk.testing.entries import Entry, Slot, Stop
from podium.sdk.testing.ledger import Ledger
from podium.sdk.testing.tasks import Child, Task
from podium.sdk.tracing import Tracer, below_current
from podium.v1 import task_pb2

T = TypeVar("T")

# Real time: how long a test waits for a handler before it gives up.
PATIENCE_S = 30.0
# A handler that waits for nothing outside has ended after so many turns of the loop.
SETTLE_TURNS = 50


class Suite:
    """Agents with a scheduler and a router in this process; an async context manager.

    Args:
        *agents: who works, each with an agent_id of its own.
        max_retries: of tasks that do not say.
        seed: of the jitter between retries.
        patience_s: real seconds for which handlers may be silent while somebody waits for a task.
            Then the clock goes on to the end of an attempt or a deadline, and without one the wait
            fails. Where the attempt has less time than that, it is what has passed of it.

    Raises:
        ValueError: two have one agent_id, or one handles nothing; no program would start with them.
    """

    def __init__(
        self,
        *agents: Agent,
        max_retries: int = 3,
        seed: int = 0,
        patience_s: float = PATIENCE_S,
    ) -> None:
        if len({agent.identity.agent_id for agent in agents}) < len(agents):
            raise ValueError("each agent needs an agent_id of its own")
        slots = [Slot(a.agent_id, a.versions, a.capacity) for a in agents]
        self.ledger = Ledger(slots, max_retries, random.Random(seed).random)
        # Seconds since the suite began, on its own clock.
        self.now_s = 0.0
        self._patience_s = patience_s
        self._agents = agents
        self._runners: dict[str, Runner] = {}
        self._frozen: dict[str, list[Outgoing]] = {}
        # Children that handlers wait for, and so do nothing else.
        self._waited_for: list[Entry] = []
        self._changed = asyncio.Event()
        self._pumping = False
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Suite:
        """Opens the agents."""
        self._loop = asyncio.get_running_loop()
        tracer = Tracer("agent", Settings(otlp_endpoint="off"))
        for agent in self._agents:
            await self._opened.enter_async_context(agent.opened())
            hear = self._hearing(agent.agent_id)
            self._runners[agent.agent_id] = Runner([agent], hear, tracer, _Children(self))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stops what still runs."""
        for runner in self._runners.values():
            await runner.stop()
        await self._opened.aclose()

    # --- Tasks -----------------------------------------------------------------------------

    async def submit(
        self, task_type: str, payload: Any = None, **options: Unpack[SubmitOptions]
    ) -> Task:
        """Submits a task, as `Client.submit`.

        Raises:
            InvalidArgument: its type, a capability or its payload is not valid.
            AlreadyExists, NotFound: as `Client.submit`.
        """
        return self._submit(task_type, payload, options)

    @property
    def tasks(self) -> list[Task]:
        """All tasks, children included, oldest first."""
        return [Task(self, entry) for entry in self.ledger.entries.values()]

    def cancel(self, entry: Entry, reason: str) -> bool:
        """Cancels a task and its descendants; False when it had ended."""
        canceled = self.ledger.cancel(entry, reason, self.now_s)
        self._pump()
        return canceled

    def provide_input(self, entry: Entry, value: Any, question: int = 0) -> None:
        """Answers a task's question; see `Task.provide_input`."""
        self.ledger.provide_input(entry, payloads.encode(value), question, self.now_s)
        self._pump()

    # --- Time ------------------------------------------------------------------------------

    async def advance(self, seconds: float) -> None:
        """Moves the clock on, doing what is due on the way at its own time."""
        end_s = self.now_s + seconds
        await self.settle()
        while True:
            due_s = self.ledger.next_due(self.now_s)
            leases = [e.due["lease"] for e in self.ledger.entries.values() if "lease" in e.due]
            times = [at_s for at_s in (due_s, *leases) if at_s is not None and at_s <= end_s]
            if not times:
                break
            self._move_to(min(times))
            await self.settle()
        self._move_to(end_s)
        await self.settle()

    async def settle(self) -> None:
        """Lets handlers run as far as they get without real time passing."""
        for _ in range(SETTLE_TURNS):
            await asyncio.sleep(0)

    def _move_to(self, at_s: float) -> None:
        self.now_s = max(self.now_s, at_s)
        self.ledger.renew(self.now_s)
        self.ledger.tick(self.now_s)
        self._pump()

    async def ended(self, entry: Entry) -> None:
        """Waits for the end of a task."""
        await self.until(entry, lambda: entry.ended)

    async def until(self, entry: Entry, reached: Callable[[], bool]) -> None:
        """Waits for a state of a task; the clock jumps where nothing but time is missing.

        Raises:
            AssertionError: it cannot come any more.
        """
        while True:
            await self.settle()
            if reached():
                return
            assert not entry.ended, f"{entry.task_id} is {entry.state}: {entry.failure.reason}"
            self._changed.clear()
            if self._busy():
                await self._handlers(entry)
                continue
            due_s = self.ledger.next_due(self.now_s)
            assert due_s is not None, f"nothing happens any more: {self._stuck(entry)}"
            self._move_to(due_s)

    # --- Faults ----------------------------------------------------------------------------

    def lose(self, agent_id: str) -> None:
        """Takes an agent away, as a machine that loses power."""
        runner = self._runners[agent_id]
        running = [e for e in self.ledger.entries.values() if e.agent_id == agent_id]
        for entry in running:
            stop = Stop(agent_id, entry.task_id, entry.lease_epoch, "LEASE_LOST")
            runner.take([stop.frame()])
        self.ledger.lose(agent_id, self.now_s)
        self._pump()

    def reconnect(self, agent_id: str) -> None:
        """Brings an agent back that was lost."""
        self.ledger.slots[agent_id].connected = True
        self._pump()

    def freeze(self, agent_id: str) -> None:
        """Lets nothing pass between an agent and the router, renewals included."""
        self._frozen[agent_id] = []
        self.ledger.slots[agent_id].frozen = True

    def thaw(self, agent_id: str) -> None:
        """Lets pass what the agent has said since `freeze`; what it lost is told to it."""
        said = self._frozen.pop(agent_id)
        self.ledger.slots[agent_id].frozen = False
        for _, _, frame in said:
            self.ledger.hear(frame, self.now_s)
        self._pump()

    # --- Inside ----------------------------------------------------------------------------

    async def _handlers(self, entry: Entry) -> None:
        """Waits until handlers say something, or one has had its time, in the real one too."""
        limit_s, patience_s = self.ledger.limit_due(), self._patience_s
        if limit_s is not None:
            patience_s = min(patience_s, limit_s - self.now_s)
        try:
            async with asyncio.timeout(patience_s):
                await self._changed.wait()
        except TimeoutError:
            assert limit_s is not None, (
                f"{entry.task_id} is {entry.state}, and no handler has said anything for"
                f" {patience_s:g} s; what waits for the suite's clock needs `advance`"
            )
            self._move_to(limit_s)

    def _busy(self) -> bool:
        """Tells whether a handler runs that waits for more than a child that has not ended."""
        idle = {child.spec.parent_task_id for child in self._waited_for if not child.ended}
        return any(
            entry.agent_id and entry.task_id not in idle and entry.agent_id not in self._frozen
            for entry in self.ledger.entries.values()
        )

    def _stuck(self, entry: Entry) -> str:
        if entry.state == "INPUT_REQUIRED":
            return f"{entry.task_id} asks {payloads.decode(entry.question or task_pb2.Payload())!r}"
        if entry.state == "QUEUED":
            return f"no agent can work on {entry.task_id}: {', '.join(sorted(entry.needs))}"
        return f"{entry.task_id} is {entry.state}"

    def _submit(self, task_type: str, payload: Any, options: SubmitOptions) -> Task:
        spec = specs.build(task_type, payload, options)
        rules.check(spec)
        entry = self.ledger.submit(spec, format_traceparent(*below_current()[0]), self.now_s)
        self._pump()
        return Task(self, entry)

    def _hearing(self, agent_id: str) -> Callable[[list[Outgoing]], None]:
        def hear(said: list[Outgoing]) -> None:
            if agent_id in self._frozen:
                self._frozen[agent_id] += said
                return
            for _, _, frame in said:
                self.ledger.hear(frame, self.now_s)
            self._pump()

        return hear

    def _pump(self) -> None:
        """Passes on what the ledger has decided."""
        self._changed.set()
        # Runners may speak before `take` returns.
        if self._pumping:
            return
        self._pumping = True
        try:
            self._stop_all()
            while (match := self.ledger.match(self.now_s)) is not None:
                entry, slot = match
                self._runners[slot.agent_id].take([entry.assignment(self.now_s)])
        finally:
            self._pumping = False

    def _stop_all(self) -> None:
        stops, self.ledger.stops = self.ledger.stops, []
        for stop in stops:
            if stop.agent_id in self._frozen:
                self.ledger.stops.append(stop)
            else:
                self._runners[stop.agent_id].take([stop.frame()])


class _Children:
    """Where handlers submit."""

    def __init__(self, suite: Suite) -> None:
        self._suite = suite

    async def submit(self, task_type: str, payload: Any, options: SubmitOptions) -> Task:
        return Child(self._suite, self._suite._submit(task_type, payload, options)._entry)

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._suite._loop).result()
