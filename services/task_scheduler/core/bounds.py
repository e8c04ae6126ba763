"""What may not run: paused lanes, those under a full key, and who goes on next."""

from __future__ import annotations

from collections import Counter
from heapq import heapify, heappop, heappush, heapreplace
from typing import TYPE_CHECKING

from services.task_scheduler.core.lane import STALE_LEN_MIN, Key, Lane, Rank

if TYPE_CHECKING:
    from services.task_scheduler.core.pool import Pool


def held_up(lane: Lane) -> bool:
    """Whether a lane may not run; one that waits for a key is noted there."""
    if lane.paused:
        return True
    if not lane.bounds:
        return False
    key = lane.full()
    if key is None:
        return False
    _block(lane, key)
    return True


def _block(lane: Lane, key: Key) -> None:
    head = lane.head()
    if head is None:
        return
    rank = lane.rank(head)
    if lane.blocked_on is key and lane.blocked_rank is not None and lane.blocked_rank <= rank:
        # It is noted there; a rank that has grown meanwhile is corrected when it surfaces.
        key.wait()
        return
    lane.blocked_on, lane.blocked_rank = key, rank
    limit = next(limit for bound, limit in lane.bounds if bound is key)
    group = limit, lane.requirement.number
    heap = key.blocked.setdefault(group, [])
    if len(heap) > 2 * key.limits[limit] + STALE_LEN_MIN:
        heap = key.blocked[group] = [entry for entry in heap if _counts(key, *entry)]
        heapify(heap)
    heappush(heap, (rank, lane))
    key.wait()


def _counts(key: Key, rank: Rank, lane: Lane) -> bool:
    """Whether an entry is the one by which its lane is noted, and something waits there."""
    if lane.blocked_on is not key or lane.blocked_rank != rank:
        return False
    if not lane.waiting:
        lane.blocked_on = lane.blocked_rank = None
    return lane.waiting > 0


def pass_on(lane: Lane) -> None:
    """Offer free places that a lane does not take to those that wait for them."""
    for key, limit in lane.bounds:
        if key.blocked and not key.full(limit):
            release(key)


def release(key: Key) -> None:
    """Let those go on that come first, as many for each pool as places are free.

    Whose agents are free is not known here, so no pool may be left without one that it could take.
    Those behind are offered when one of these surfaces and takes no place.
    """
    blocked = key.blocked
    groups = [(heap[0][0], group) for group, heap in blocked.items()]
    heapify(groups)
    offered: Counter[tuple[int, Pool]] = Counter()
    while groups:
        rank, group = heappop(groups)
        limit, heap = group[0], blocked[group]
        free = key.free(limit)
        # All lanes of a group have the same needs.
        pools = heap[0][1].requirement.pools
        if free <= 0 or (pools and all([offered[limit, pool] >= free for pool in pools])):
            continue
        lane = _best(key, heap)
        if lane is not None and lane.blocked_rank is not None and lane.blocked_rank > rank:
            # The first entry was out of date: others may come before this one.
            heappush(heap, (lane.blocked_rank, lane))
            heappush(groups, (lane.blocked_rank, group))
            continue
        if not heap:
            del blocked[group]
        if lane is not None:
            lane.blocked_on = lane.blocked_rank = None
            offer(lane)
            for pool in pools:
                offered[limit, pool] += 1


def _best(key: Key, heap: list[tuple[Rank, Lane]]) -> Lane | None:
    while heap:
        rank, lane = heap[0]
        if lane.blocked_on is not key or lane.blocked_rank != rank:
            heappop(heap)
            continue
        head = lane.head()
        if head is None or lane.paused:
            heappop(heap)
            lane.blocked_on = lane.blocked_rank = None
            continue
        other, now = lane.full(), lane.rank(head)
        if other is not None:
            heappop(heap)
            _block(lane, other)
        elif rank < now:
            lane.blocked_rank = now
            heapreplace(heap, (now, lane))
        else:
            heappop(heap)
            return lane
    return None


def offer(lane: Lane) -> None:
    """List a lane wherever agents can run its tasks."""
    for pool in lane.requirement.pools:
        pool.offer(lane)
