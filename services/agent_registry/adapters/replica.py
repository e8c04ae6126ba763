"""This registry among those that share its store: what changed here out, what changed there in."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable

from services.agent_registry.core.acts import by_matter
from services.agent_registry.core.exchange import REPLICA_MARK, Exchange
from services.agent_registry.core.kept import Kept, Note, kept_of
from services.agent_registry.core.registry import Registry
from services.agent_registry.ports import AgentStore
from services.kernel.clock import Clock
from services.kernel.errors import Unavailable

batch_len = 256
wait_s = 1.0
notes_len_max = 16_384
"""Notes that wait for a store that is away; the oldest go first."""
renewals = 4
"""Renewals in the time after which silence is held against an agent."""
keep_tries = 5
"""How often a decision is kept anew that another replica's record has just passed over."""


class StoreReplica:
    """Keeps a registry and the store that it shares with others in step.

    Without the store, agents of routers that are connected here are served as ever, and the others
    stay as they were last known.
    """

    def __init__(
        self, registry: Registry, store: AgentStore, clock: Clock, touch: Callable[[], None]
    ) -> None:
        self._registry = registry
        self._exchange = Exchange(registry)
        self._store = store
        self._clock = clock
        self._touch = touch
        self._unsaved: dict[str, None] = {}
        self._notes: deque[Note] = deque(maxlen=notes_len_max)
        self._noted = asyncio.Event()
        self._publishing = asyncio.Lock()
        self._cursor = ""
        self._renew_s = min(registry.limits.suspect_s, registry.limits.grace_s) / renewals
        self._renewed_s = float("-inf")

    def note(self, changed: Iterable[str], notes: Iterable[Note]) -> None:
        """Remember what is to be saved and told."""
        self._unsaved.update(dict.fromkeys(changed))
        self._notes.extend(notes)
        if self._notes:
            self._noted.set()

    async def save(self) -> None:
        """Keep what has changed since the last time; on failure it is tried again."""
        await self._write()
        now_s = self._clock.now().mono_s
        if now_s - self._renewed_s >= self._renew_s:
            await self._renew()
            self._renewed_s = now_s

    async def publish(self) -> None:
        """Tell the others what they must learn, once there is something."""
        await self._noted.wait()
        await self._publish()

    async def keep(self, agent_ids: Collection[str]) -> None:
        """Return when what operators have decided of agents is in the store, and told.

        Raises:
            Unavailable: REGISTRY_STORE_UNREACHABLE, it holds here and is kept later.
        """
        try:
            # Told first: whoever speaks for an agent may just be writing what it knew before.
            await self._publish()
            await self._keep(list(agent_ids))
            self._registry.unkept.difference_update(agent_ids)
        except Unavailable as error:
            self._unsaved.update(dict.fromkeys(agent_ids))
            self._registry.unkept.update(self._registry.agents.keys() & set(agent_ids))
            raise Unavailable(
                error.reason,
                "It holds at this registry and is kept once the store is back; ask again to be"
                f" sure: {error.message}",
                retry_after_s=1.0,
            ) from error

    async def follow(self) -> None:
        """Take over what the others have told; wait a moment when there is nothing."""
        news = await self._store.news(self._cursor, wait_s)
        if news.lost:
            await self._restore()
        now = self._clock.now()
        if now.mono_s - self._registry.told_s > 1.5 * wait_s:
            self._exchange.excuse(now)  # it stood still: it could not pass on that they are there
        for kept in news.saved:
            self._exchange.adopt(kept, 0.0, now)
        for agent_id in news.removed:
            self._exchange.forget(agent_id)
        for note in news.notes:
            self._exchange.learn(note, now)
        self._cursor = news.cursor
        self._registry.told_s = now.mono_s
        self._touch()

    def excuse(self) -> None:
        """Hold nobody's silence against them: the store, through which they are heard, is away."""
        self._exchange.excuse(self._clock.now())

    async def _publish(self) -> None:
        async with self._publishing:
            notes = tuple(self._notes)
            await self._store.publish(notes)
            for _ in notes:
                self._notes.popleft()
            if not self._notes:
                self._noted.clear()

    async def _keep(self, ids: list[str]) -> None:
        for _ in range(keep_tries):
            passed_over: list[str] = []
            for at in range(0, len(ids), batch_len):
                passed_over += await self._save(*self._sorted_out(ids[at : at + batch_len]))
            agents = self._registry.agents
            ids = [each for each in passed_over if each in agents and agents[each].is_unsaid]
            if not ids:
                return
            # Its record has come to a higher term: with that it is taken, and kept once more.
            await self._adopt(await self._store.load(ids), await self._store.leases())
        raise Unavailable("REGISTRY_STORE_UNREACHABLE", "Others write about the agent all the time")

    async def _save(self, kept: list[Kept], removed: list[str]) -> dict[str, int]:
        refused = await self._store.save(kept, removed)
        for each in kept:
            agent = self._registry.agents.get(each.facts.agent_id)
            if agent is not None and each.facts.agent_id not in refused:
                agent.acts_kept = by_matter(each.acts)
        return refused

    async def _restore(self) -> None:
        """Say all that this replica knows, and take over what others do."""
        # First what is there: an agent that has moved on is not claimed back.
        await self._adopt(await self._store.load(), await self._store.leases())
        self._unsaved.update(dict.fromkeys(self._registry.agents))
        self._renewed_s = float("-inf")
        await self.save()

    async def _write(self) -> None:
        unsaved, self._unsaved = self._unsaved, {}
        ids = list(unsaved)
        try:
            while ids:
                batch = ids[:batch_len]
                refused = await self._save(*self._sorted_out(batch))
                del ids[: len(batch)]
                for agent_id, term in refused.items():
                    if self._exchange.outbid(agent_id, term):
                        self._unsaved[agent_id] = None
        except BaseException:
            self._unsaved = {**dict.fromkeys(ids), **self._unsaved}
            raise

    def _sorted_out(self, ids: Iterable[str]) -> tuple[list[Kept], list[str]]:
        now, kept, removed = self._clock.now(), [], []
        for agent_id in ids:
            agent = self._registry.agents.get(agent_id)
            if agent is None:
                removed.append(agent_id)
            elif self._exchange.has_say(agent):
                kept.append(kept_of(agent, now))
        return kept, removed

    async def _renew(self) -> None:
        """Tell who was heard of here, and learn who was heard of elsewhere."""
        registry = self._registry
        since_s = self._clock.now().mono_s - 2 * self._renew_s
        here = [
            agent.agent_id
            for agent in registry.agents.values()
            if self._exchange.is_mine(agent) and agent.present and agent.heard_s >= since_s
        ]
        await self._store.renew([REPLICA_MARK + registry.replica_id, *here])
        ages_s = await self._store.leases()
        missed = self._exchange.heard(ages_s, self._clock.now())
        if missed:
            await self._adopt(await self._store.load(missed), ages_s)
        gone = self._exchange.inherit(ages_s)
        if gone:
            await self._store.save((), gone)
        self._touch()

    async def _adopt(self, found: Iterable[Kept], ages_s: dict[str, float]) -> None:
        now = self._clock.now()
        for kept in found:
            self._exchange.adopt(kept, ages_s.get(kept.facts.agent_id), now)
        self._touch()
