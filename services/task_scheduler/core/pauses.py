"""Which types of tasks and which tenants are paused: their tasks wait, what runs goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from services.task_scheduler.core.lane import Lane
    from services.task_scheduler.core.shares import Tenant


class Scope(NamedTuple):
    """What is paused: a tenant, a type of tasks, or a type of one tenant; empty means any."""

    tenant: str
    task_type: str


class Pause(NamedTuple):
    """A pause in force."""

    scope: Scope
    reason: str
    since_ms: int


class Pauses:
    """All pauses in force."""

    __slots__ = ("_pauses",)

    def __init__(self) -> None:
        self._pauses: dict[Scope, Pause] = {}

    def __iter__(self) -> Iterator[Pause]:
        return iter(self._pauses.values())

    def __len__(self) -> int:
        return len(self._pauses)

    def __contains__(self, scope: Scope) -> bool:
        return scope in self._pauses

    def add(self, pause: Pause) -> None:
        """Begin a pause."""
        self._pauses[pause.scope] = pause

    def remove(self, scope: Scope) -> None:
        """End a pause."""
        self._pauses.pop(scope, None)

    def find(self, tenant: str, task_type: str) -> Pause | None:
        """Return the pause that holds tasks of a type and tenant, if there is one."""
        if not self._pauses:
            return None
        scopes = (Scope(tenant, ""), Scope("", task_type), Scope(tenant, task_type))
        return next((self._pauses[scope] for scope in scopes if scope in self._pauses), None)

    def hold(self, tenant: str, task_type: str) -> bool:
        """Whether tasks of a type and tenant are paused."""
        return self.find(tenant, task_type) is not None


class ByScope:
    """Lanes by what a pause may name."""

    __slots__ = ("_by_type",)

    def __init__(self) -> None:
        self._by_type: dict[str, dict[int, Lane]] = {}

    def add(self, lane: Lane) -> None:
        """Take a new lane in."""
        lane.share.tenant.lanes[lane.number] = lane
        self._by_type.setdefault(lane.key.task_type, {})[lane.number] = lane

    def remove(self, lane: Lane) -> None:
        """Let a lane go."""
        del lane.share.tenant.lanes[lane.number]
        alike = self._by_type[lane.key.task_type]
        del alike[lane.number]
        if not alike:
            del self._by_type[lane.key.task_type]

    def within(self, scope: Scope, tenant: Tenant | None) -> Iterable[Lane]:
        """Return the lanes of a tenant or of a type: the fewer ones where a scope names both.

        Args:
            scope: What is looked for.
            tenant: The tenant that it names; None when that has not been heard of.
        """
        found: list[dict[int, Lane]] = []
        if scope.tenant:
            found.append(tenant.lanes if tenant is not None else {})
        if scope.task_type:
            found.append(self._by_type.get(scope.task_type, {}))
        return min(found, key=len).values()
