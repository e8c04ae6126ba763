"""Which tasks lie in which partition, and which replica should own which partitions.

All tasks of a tenant lie in one partition, so that every rule about them (order, quotas, keys,
dependencies, idempotency) is decided in one place, and exactly. The rule is part of what a database
holds: it must never change.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from hashlib import blake2b
from typing import NamedTuple

PARTITIONS_MAX = 64


class Owner(NamedTuple):
    """Who owns a partition."""

    name: str
    address: str


class Sight(NamedTuple):
    """What a replica sees of the others."""

    owners: Mapping[int, Owner]
    """Owners that live, by partition; the other partitions are free."""
    replicas: Collection[str]
    """Replicas that live, whether they own anything or not."""


class Plan(NamedTuple):
    """What a replica should do now."""

    take: int = 0
    """How many free partitions to take."""
    release: int = 0
    """How many of its own to give up."""


def partition_of(tenant: str, count: int) -> int:
    """Return the partition of a tenant's tasks."""
    if count == 1:
        return 0
    return int.from_bytes(blake2b(tenant.encode(), digest_size=8).digest()) % count


def partition_in(task_id: str, count: int) -> int:
    """Return the partition that an id tells; 0 for an id that is none."""
    try:
        partition = int(task_id[:2], 16)
    except ValueError:
        return 0
    return partition if partition < count else 0


def plan(count: int, sight: Sight, me: str) -> Plan:
    """Return what makes the shares even with the fewest moves.

    Everybody should own the floor of the mean or one more. Free partitions go to whoever has less
    than that; where none is free, those who have most give up as many as others lack. So one
    replica that joins another on a single partition takes nothing away.

    Args:
        count: The partitions there are.
        sight: Who lives, and who owns what.
        me: The replica that asks.
    """
    owned = dict.fromkeys((*sight.replicas, me), 0)
    for owner in sight.owners.values():
        owned[owner.name] = owned.get(owner.name, 0) + 1
    floor, rest = divmod(count, len(owned))
    ceiling = floor + bool(rest)
    free = count - len(sight.owners)
    lacks = {name: max(0, floor - share) for name, share in owned.items()}
    if free:
        spare = max(0, free - sum(lacks.values()))
        take = min(free, lacks[me] + min(spare, ceiling - max(owned[me], floor)))
        if take > 0:
            return Plan(take=take)
    missing = sum(lacks.values()) - free
    release = max(0, owned[me] - ceiling)
    shares = {name: min(share, ceiling) for name, share in owned.items()}
    missing -= sum(share - shares[name] for name, share in owned.items())
    while missing > 0:
        richest = min(shares, key=lambda name: (-shares[name], name))
        shares[richest] -= 1
        release += richest == me
        missing -= 1
    return Plan(release=release)
