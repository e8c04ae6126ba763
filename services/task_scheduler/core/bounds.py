"""What may not run: paused lanes, those under a full key, and who goes on next."""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace

from services.task_scheduler.core.lane import STALE_LEN_MIN, Key, Lane, Rank


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
    """Let one lane go on for each set of needs: whose agents are free is not known here."""
    for (limit, number), heap in list(key.blocked.items()):
        if not key.full(limit):
            lane = _best(key, heap)
            if lane is not None:
                lane.blocked_on = lane.blocked_rank = None
                offer(lane)
        if not heap:
            del key.blocked[limit, number]


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
