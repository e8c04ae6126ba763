"""What the rooms of AgentRegistry need of each other, and of where agents are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import NamedTuple, Protocol

from services.agent_registry.core.agent import Facts
from services.agent_registry.core.registry import Directive, Filter, Registry
from services.kernel.instant import Instant


class Kept(NamedTuple):
    """What is kept of an agent."""

    facts: Facts
    create_ms: int
    heard_ms: int
    present: bool = False
    quarantined: bool = False
    reason: str = ""


class AgentStore(Protocol):
    """Keeps agents; several registries may share one.

    It is soft state: losing it costs the memory of agents that are offline and of quarantines.
    """

    async def load(self) -> list[Kept]:
        """Return everything that is kept, by agent id."""
        ...

    async def save(self, kept: Sequence[Kept], removed: Sequence[str]) -> None:
        """Keep agents as they are now, and forget others; all of it or nothing."""
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


class RouterLine(Protocol):
    """The directives for one router."""

    def directives(self) -> AsyncIterator[list[Directive]]:
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

    async def save(self) -> None:
        """Keep what has changed since the last time."""
        ...
