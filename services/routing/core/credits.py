"""What each capability class accepts, as a number that only counts up with what was granted.

A scheduler may grant `total - granted`: the free slots and a look-ahead, so that an agent that
becomes free finds its next task here. It is told how much of it is look-ahead, and grants what is
free at any router first. The look-ahead is 16 tasks, and where a class is fast what it
takes in the time of a grant: with 16 alone, 100 slots of tasks that end at once stood idle half of
the time. So what waits here, past the scheduler's order, is never more than 50 ms of work or 16
tasks. A class in which nobody works accepts nothing.
Several partitions of the scheduler share what a class accepts, each under a total of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from services.routing.core.effects import Credited

if TYPE_CHECKING:
    from services.routing.core.board import Board
    from services.routing.core.fleet import CapabilityClass

look_ahead_len_min = 16
look_ahead_len_max = 1_024
grant_s = 0.05
"""From credit to grant under load: two hops that coalesce and a commit."""


hungry_s = 0.25
"""How long a partition that granted something counts as one that has more."""
reserve_divisor = 4
"""Partitions that grant nothing keep a fourth of an even share, for what may come."""
urgent_divisor = 10
"""A scheduler keeps a tenth of a look-ahead for urgent tasks: it must not be all that is left."""


def room(kind: CapabilityClass, *, draining: bool) -> int:
    """Return how many more grants a class accepts."""
    if draining or not kind.working_count:
        return 0
    return max(0, kind.free_slots + kind.look_ahead - kind.waiting)


def shares(
    kind: CapabilityClass, left: int, up: Sequence[int], now_s: float
) -> list[tuple[int, int]]:
    """Return how many more grants each partition of `up` may make, and the look-ahead among them.

    Those that have used what they had, have tasks here that wait, or granted something lately share
    what is left so that each comes to have as many waiting; the others keep a little. One that has
    nothing waiting here may always grant one task, be there room or not: no partition starves while
    others fill the room, and what waits here is at most one task a partition more.

    Args:
        kind: The class.
        left: What it accepts.
        up: The partitions that can be told.
        now_s: The time.
    """
    reserve = max(1, left // (reserve_divisor * len(up)))
    parts = [kind.parts[number] for number in up]
    hungry = [
        part
        for part in parts
        if part.waiting or part.announced[0] <= part.granted or now_s - part.heard_s < hungry_s
    ]
    hungry = hungry or parts
    rest = max(0, left - reserve * (len(parts) - len(hungry)))
    given = dict(zip(hungry, _level([part.waiting for part in hungry], rest), strict=True))
    ahead = kind.look_ahead // len(hungry)
    spare = max(0, kind.free_slots - kind.waiting)
    found = []
    for part in parts:
        share = max(given.get(part, reserve), int(not part.waiting))
        told = ahead if part in given else max(0, share - spare)
        if not part.waiting:
            told = min(told, urgent_divisor * share - 1)
        found.append((share, told))
    return found


def _level(waiting: list[int], rest: int) -> list[int]:
    """Return what to add to each so that the least become as even as `rest` allows."""
    given = [0] * len(waiting)
    order = sorted(range(len(waiting)), key=lambda index: waiting[index])
    for count in range(1, len(order) + 1):
        lowest = order[:count]
        level = waiting[order[count]] if count < len(order) else rest + waiting[order[-1]]
        need = sum(level - waiting[index] - given[index] for index in lowest)
        if need >= rest or count == len(order):
            each, more = divmod(rest, count)
            for place, index in enumerate(lowest):
                given[index] += each + (place < more)
            return given
        for index in lowest:
            given[index] = level - waiting[index]
        rest -= need
    return given


def pace(board: Board, elapsed_s: float) -> None:
    """Fit each class's look-ahead to how fast it took tasks in the last `elapsed_s` seconds."""
    if board.fleet.partitions > 1:
        # Who has had nothing to grant for a while makes room for the others.
        board.fleet.changed.update(board.fleet.classes.values())
    for kind in board.fleet.classes.values():
        taken_per_s = kind.placed / elapsed_s
        kind.placed = 0
        # Up at once, down by halves: a pause of a moment must not starve what follows.
        kind.pace = max(taken_per_s, (kind.pace + taken_per_s) / 2)
        ahead = min(look_ahead_len_max, look_ahead_len_min + int(kind.pace * grant_s))
        if ahead != kind.look_ahead:
            kind.look_ahead = ahead
            board.fleet.changed.add(kind)


def announce(board: Board, now_s: float) -> None:
    """Tell the scheduler what has changed; without one, remember it."""
    changed, up = board.fleet.changed, board.up
    if not changed or not up:
        return
    for kind in sorted(changed, key=lambda kind: kind.class_id):
        left = room(kind, draining=board.draining)
        works = kind.working_count and not board.draining
        # The look-ahead as such, not what is left of it: that would change with every grant.
        if not works or board.fleet.partitions == 1:
            given = [(left, kind.look_ahead)] * len(up)
        else:
            given = shares(kind, left, up, now_s)
        for number, (share, ahead) in zip(up, given, strict=True):
            part = kind.parts[number]
            credit = (part.granted + share, kind.agent_count, ahead)
            if credit != part.announced:
                part.announced = credit
                board.effects.append(Credited(kind, credit[0], ahead, number))
    changed.clear()
