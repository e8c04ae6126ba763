"""Where inputs meet the core: changes to watchers and the replica, directives to routers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable

from services.agent_registry.core.agent import Directive
from services.agent_registry.core.filter import Filter
from services.agent_registry.core.kept import Note
from services.agent_registry.core.registry import Registry
from services.agent_registry.ports import Changes, RouterLine, Said
from services.kernel.clock import Clock
from services.kernel.coalesce import Outbox
from services.kernel.instant import Instant

batch_len_max = 256

Listener = Callable[[Iterable[str], Iterable[Note]], None]
Keeper = Callable[[Collection[str]], Awaitable[None]]


class DirectiveLine:
    """The directives for one router, the newest for each agent."""

    def __init__(self) -> None:
        self._outbox: Outbox[None] = Outbox(queue_len_max=1)
        self._pending: dict[str, Directive] = {}
        self._asked = 0
        self._answer = 0

    def ask(self, number: int) -> None:
        """Note that the router wants to know when all is said about the agents it told of."""
        self._asked = max(self._asked, number)

    def answer(self) -> None:
        """Tell the router that what was put until now is all there is to say."""
        if self._answer < self._asked:
            self._answer = self._asked
            self._outbox.offer(None)

    def put(self, directives: list[Directive]) -> None:
        """Tell the router soon."""
        for directive in directives:
            self._pending[directive.agent_id] = directive
        self._outbox.offer(None)

    async def directives(self) -> AsyncIterator[Said]:
        """Yield what the router must know, until the line is closed."""
        async for _ in self._outbox.batches():
            pending, self._pending = self._pending, {}
            yield Said(list(pending.values()), self._answer)

    def close(self) -> None:
        """End."""
        self._outbox.close()


class AgentWatcher:
    """Follows agents: what changes while nobody reads is merged, so it never falls behind."""

    def __init__(
        self, desk: RegistryDesk, wanted: Filter, min_interval_s: float, clock: Clock
    ) -> None:
        self._desk = desk
        self._wanted = wanted
        self._min_interval_s = min_interval_s
        self._clock = clock
        self._pending: dict[str, None] = {}
        self._shown: set[str] = set()
        self._signal: Outbox[None] = Outbox(queue_len_max=1)

    def tell(self, agent_ids: list[str]) -> None:
        """Note agents that changed."""
        self._pending.update(dict.fromkeys(agent_ids))
        self._signal.offer(None)

    async def changes(self) -> AsyncIterator[Changes]:
        """Yield all that match first, then what changes."""
        first = sorted(self._desk.registry.find(self._wanted))
        for start in range(0, len(first), batch_len_max):
            ids = first[start : start + batch_len_max]
            yield self._sorted_out(ids, caught_up=start + batch_len_max >= len(first))
        if not first:
            yield Changes((), (), True)
        async for _ in self._signal.batches():
            while self._pending:
                ids = list(self._pending)[:batch_len_max]
                for agent_id in ids:
                    del self._pending[agent_id]
                changes = self._sorted_out(ids, caught_up=True)
                if changes.agent_ids or changes.removed:
                    yield changes
                    if self._min_interval_s:
                        await self._clock.sleep(self._min_interval_s)

    def close(self) -> None:
        """Stop following."""
        self._signal.close()
        self._desk.unwatch(self)

    def _sorted_out(self, ids: list[str], *, caught_up: bool) -> Changes:
        agents = self._desk.registry.agents
        matching, removed = [], []
        for agent_id in ids:
            agent = agents.get(agent_id)
            if agent is not None and self._wanted.matches(agent):
                matching.append(agent_id)
                self._shown.add(agent_id)
            elif agent_id in self._shown:
                self._shown.discard(agent_id)
                removed.append(agent_id)
        return Changes(tuple(matching), tuple(removed), caught_up)


class RegistryDesk:
    """Passes on what the core has changed."""

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self.registry = registry
        self._clock = clock
        self._touched = False
        self._lines: dict[str, DirectiveLine] = {}
        self._watchers: set[AgentWatcher] = set()
        self._listener: Listener | None = None
        self._keeper: Keeper | None = None

    def listen(self, listener: Listener, keeper: Keeper) -> None:
        """Tell what has changed and what other replicas must learn, and who keeps decisions."""
        self._listener, self._keeper = listener, keeper

    @property
    def router_count(self) -> int:
        """Routers that are connected."""
        return len(self._lines)

    def now(self) -> Instant:
        """Return the time that inputs are stamped with."""
        return self._clock.now()

    def touch(self) -> None:
        """Pass on what has changed at the end of this turn of the loop."""
        if not self._touched:
            self._touched = True
            asyncio.get_running_loop().call_soon(self._turn)

    async def kept(self, agent_ids: Collection[str]) -> None:
        """Pass on what operators have decided of agents, and return when it is kept."""
        # Whatever becomes of its being kept, routers are to know it at once.
        self._turn()
        if self._keeper is not None:
            await self._keeper(agent_ids)

    def open_line(self, router_id: str) -> RouterLine:
        """Begin to give directives to a router; a line it had before ends."""
        before = self._lines.get(router_id)
        if before is not None:
            before.close()
        line = self._lines[router_id] = DirectiveLine()
        return line

    def drop_line(self, router_id: str, line: RouterLine) -> None:
        """Note that a router's stream has ended."""
        line.close()
        # A newer stream of the same router may have taken over already.
        if self._lines.get(router_id) is line:
            del self._lines[router_id]
            self.registry.router_gone(router_id, self.now())
            self.touch()

    def watch(self, wanted: Filter, min_interval_s: float) -> AgentWatcher:
        """Follow the agents of a filter."""
        watcher = AgentWatcher(self, wanted, min_interval_s, self._clock)
        self._watchers.add(watcher)
        return watcher

    def unwatch(self, watcher: AgentWatcher) -> None:
        """Forget a watcher."""
        self._watchers.discard(watcher)

    def close(self) -> None:
        """End all watches and lines, so that a server can stop."""
        for watcher in tuple(self._watchers):
            watcher.close()
        for line in self._lines.values():
            line.close()

    def tick(self) -> None:
        """Do what is due."""
        self.registry.tick(self.now())
        self.touch()

    def sweep(self) -> None:
        """Forget what is long gone."""
        self.registry.sweep(self.now())
        self.touch()

    def _turn(self) -> None:
        self._touched = False
        for router_id, directives in self.registry.take_directives().items():
            line = self._lines.get(router_id)
            if line is not None:
                line.put(directives)
        if self.registry.is_versed:
            for line in self._lines.values():
                line.answer()
        changed = self.registry.take_changes()
        counted, notes = self.registry.take_counted(), self.registry.take_notes()
        if self._listener is not None:
            self._listener([*changed, *counted], notes)
        if changed:
            for watcher in self._watchers:
                watcher.tell(changed)
