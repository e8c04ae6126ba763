"""What the scheduler tells routers: the effects of its decisions.

The shell sends them, in order, when the events recorded before them are durable.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from services.task_scheduler.core.task import Lease, Task


class Verdict(IntEnum):
    """What is to become of a lease; the numbers are those of the wire contract."""

    KEEP = 1
    CANCEL = 2
    LOST = 3


class Settlement(IntEnum):
    """What became of an outcome; the numbers are those of the wire contract."""

    ACCEPTED = 1
    DUPLICATE = 2
    FENCED = 3
    REFUSED = 4
    CONFLICT = 5
    UNKNOWN = 6


class Welcome(NamedTuple):
    """Accepts a router."""

    verdicts: tuple[tuple[Lease, Verdict], ...]
    lease_ttl_s: float


class Grant(NamedTuple):
    """Gives a task to a router."""

    task: Task
    lease_epoch: int
    class_id: int
    sticky_agent_id: str


class Settled(NamedTuple):
    """Answers an outcome."""

    lease: Lease
    settlement: Settlement


class Revoke(NamedTuple):
    """Ends a lease from outside."""

    lease: Lease
    reason: str


class Verdicts(NamedTuple):
    """Answers leases that are claimed, or renewed and not held."""

    agent_id: str
    verdicts: tuple[tuple[Lease, Verdict], ...]


class Reclaim(NamedTuple):
    """Asks for tasks that wait at a router while agents of another one are free."""

    capabilities: frozenset[str]
    most: int


Order = Welcome | Grant | Settled | Revoke | Verdicts | Reclaim


class Orders:
    """The orders of one step, each with the router it is for."""

    __slots__ = ("_orders",)

    def __init__(self) -> None:
        self._orders: list[tuple[str, Order]] = []

    def __bool__(self) -> bool:
        return bool(self._orders)

    def send(self, router_id: str, order: Order) -> None:
        """Add an order."""
        self._orders.append((router_id, order))

    def take(self) -> list[tuple[str, Order]]:
        """Return and forget the orders."""
        orders, self._orders = self._orders, []
        return orders
