"""Which types of tasks and which tenants are paused: their tasks wait, what runs goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


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
