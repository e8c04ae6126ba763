"""What may not run: paused lanes, those under a full key, and who goes on next."""

from __future__ import annotations

from heapq import heappop, heappush, heapreplace

from services.task_scheduler.core.lane import Key, Lane, Rank


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
    if head is not None:
        lane.blocked_on = key
        limit = next(limit for bound, limit in lane.bounds if bound is key)
        heap = key.blocked.setdefault((limit, lane.requirement.number), [])
        heappush(heap, (lane.rank(head), lane))
        key.wait()


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
                lane.blocked_on = None
                offer(lane)
        if not heap:
            del key.blocked[limit, number]


def _best(key: Key, heap: list[tuple[Rank, Lane]]) -> Lane | None:
    while heap:
        rank, lane = heap[0]
        head = lane.head()
        if lane.blocked_on is not key or head is None or lane.paused:
            heappop(heap)
            if lane.blocked_on is key:
                lane.blocked_on = None
            continue
        other = lane.full()
        if other is not None:
            heappop(heap)
            _block(lane, other)
        elif rank < lane.rank(head):
            heapreplace(heap, (lane.rank(head), lane))
        else:
            heappop(heap)
            return lane
    return None


def offer(lane: Lane) -> None:
    """List a lane wherever agents can run its tasks."""
    for pool in lane.requirement.pools:
        pool.offer(lane)
