"""What the rooms of AgentRegistry need of each other, and of where agents are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import NamedTuple, Protocol

from services.agent_registry.core.agent import Directive
from services.agent_registry.core.filter import Filter
from services.agent_registry.core.kept import Kept, Note
from services.agent_registry.core.registry import Registry
from services.kernel.instant import Instant


class News(NamedTuple):
    """What other replicas have told."""

    cursor: str
    """Where the next reading goes on."""
    lost: bool = False
    """Whether the store has begun anew, or dropped what was not read: everything must be said and
    read again."""
    saved: tuple[Kept, ...] = ()
    removed: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()


class AgentStore(Protocol):
    """Keeps agents; several registries may share one.

    It is soft state, and may lose all of it: registries say again what they know. Each of its
    methods raises Unavailable, REGISTRY_STORE_UNREACHABLE, while it is away.
    """

    async def load(self, agent_ids: Collection[str] | None = None) -> list[Kept]:
        """Return what is kept, by agent id: of some agents, or of all."""
        ...

    async def save(self, kept: Sequence[Kept], removed: Sequence[str]) -> dict[str, int]:
        """Keep agents as they are now, forget others, and tell who reads: all of it or nothing.

        Returns:
            Agents that were not kept since a higher term of them is kept already: that term.
        """
        ...

    async def publish(self, notes: Sequence[Note]) -> None:
        """Tell notes to all who read."""
        ...

    async def news(self, cursor: str, wait_s: float) -> News:
        """Return what others have told after a cursor; wait so long when there is nothing.

        An empty cursor, or one of a store that has begun anew since, gives `lost`.
        """
        ...

    async def renew(self, agent_ids: Collection[str]) -> None:
        """Note that agents were heard of now."""
        ...

    async def leases(self) -> dict[str, float]:
        """Return how many seconds ago each agent was heard of, by the clock of the store."""
        ...

    async def having(self, capabilities: Collection[str]) -> set[str]:
        """Return the ids of kept agents that have all of `capabilities`; of all for none."""
        ...

    async def close(self) -> None:
        """Give everything back."""
        ...


class Changes(NamedTuple):
    """What a watcher is told."""

    agent_ids: tuple[str, ...]
    removed: tuple[str, ...]
    caught_up: bool


class Watcher(Protocol):
    """Follows the agents of a filter."""

    def changes(self) -> AsyncIterator[Changes]:
        """Yield all that match first, then what changes, merged while nobody reads."""
        ...

    def close(self) -> None:
        """Stop following."""
        ...


class Said(NamedTuple):
    """What a router is told at once."""

    directives: list[Directive]
    answer: int
    """The highest number that it has asked under and to which all is said; 0 = none."""


class RouterLine(Protocol):
    """The directives for one router."""

    def ask(self, number: int) -> None:
        """Note that the router wants to know when all is said about the agents it told of."""
        ...

    def directives(self) -> AsyncIterator[Said]:
        """Yield what the router must know, until the line is closed."""
        ...

    def close(self) -> None:
        """End."""
        ...


class Desk(Protocol):
    """Where inputs meet the core and what changed is passed on."""

    registry: Registry

    def now(self) -> Instant:
        """Return the time that inputs are stamped with."""
        ...

    def touch(self) -> None:
        """Pass on soon what has changed: once for everything that comes in the same turn."""
        ...

    async def kept(self, agent_ids: Collection[str]) -> None:
        """Pass on what operators have decided of agents, and return when it is kept.

        Raises:
            Unavailable: REGISTRY_STORE_UNREACHABLE, it holds here and is kept later.
        """
        ...

    def open_line(self, router_id: str) -> RouterLine:
        """Begin to give directives to a router; a line it had before ends."""
        ...

    def drop_line(self, router_id: str, line: RouterLine) -> None:
        """Note that a router's stream has ended."""
        ...

    def watch(self, wanted: Filter, min_interval_s: float) -> Watcher:
        """Follow the agents of a filter."""
        ...

    def tick(self) -> None:
        """Do what is due."""
        ...

    def sweep(self) -> None:
        """Forget what is long gone."""
        ...


class Replica(Protocol):
    """This registry among those that share its store."""

    async def save(self) -> None:
        """Keep what has changed since the last time, and renew leases that are due."""
        ...

    async def publish(self) -> None:
        """Tell the others what they must learn, once there is something."""
        ...

    async def follow(self) -> None:
        """Take over what the others have told; wait a moment when there is nothing."""
        ...

    def excuse(self) -> None:
        """Hold nobody's silence against them: the store, through which they are heard, is away."""
        ...
