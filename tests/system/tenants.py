"""Tenants whose tasks lie in different partitions."""

from __future__ import annotations

from services.task_scheduler.core.ownership import partition_of


def tenants_by_partition(count: int) -> list[str]:
    """Returns one tenant of each partition; the caller's own where there is but one."""
    if count == 1:
        return [""]
    found: dict[int, str] = {}
    number = 0
    while len(found) < count:
        name = f"tenant-{number}"
        found.setdefault(partition_of(name, count), name)
        number += 1
    return [found[partition] for partition in range(count)]
