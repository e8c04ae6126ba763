"""What each capability class accepts, as a number that only counts up with what was granted.

A scheduler may grant `total - granted`: the free slots and a look-ahead, so that an agent that
becomes free finds its next task here. It is told how much of it is look-ahead, and grants what is
free at any router first. The look-ahead is 16 tasks, and where a class is fast what it
takes in the time of a grant: with 16 alone, 100 slots of tasks that end at once stood idle half of
the time. So what waits here, past the scheduler's order, is never more than 50 ms of work or 16
tasks. A class in which nobody works accepts nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.routing.core.effects import Credited

if TYPE_CHECKING:
    from services.routing.core.board import Board
    from services.routing.core.fleet import CapabilityClass

look_ahead_len_min = 16
look_ahead_len_max = 1_024
grant_s = 0.05
"""From credit to grant under load: two hops that coalesce and a commit."""


def total(kind: CapabilityClass, *, draining: bool) -> int:
    """Return the grants a class accepts since the stream began."""
    if draining or not kind.working_count:
        return kind.granted
    return kind.granted + max(0, kind.free_slots + kind.look_ahead - kind.waiting)


def pace(board: Board, elapsed_s: float) -> None:
    """Fit each class's look-ahead to how fast it took tasks in the last `elapsed_s` seconds."""
    for kind in board.fleet.classes.values():
        taken_per_s = kind.placed / elapsed_s
        kind.placed = 0
        # Up at once, down by halves: a pause of a moment must not starve what follows.
        kind.pace = max(taken_per_s, (kind.pace + taken_per_s) / 2)
        ahead = min(look_ahead_len_max, look_ahead_len_min + int(kind.pace * grant_s))
        if ahead != kind.look_ahead:
            kind.look_ahead = ahead
            board.fleet.changed.add(kind)


def announce(board: Board) -> None:
    """Tell the scheduler what has changed; without one, remember it."""
    changed = board.fleet.changed
    if not changed or not board.dispatch_up:
        return
    for kind in sorted(changed, key=lambda kind: kind.class_id):
        credit = total(kind, draining=board.draining)
        # The look-ahead as such, not what is left of it: that would change with every grant.
        if (credit, kind.agent_count, kind.look_ahead) != kind.announced:
            kind.announced = (credit, kind.agent_count, kind.look_ahead)
            board.effects.append(Credited(kind, credit, kind.look_ahead))
    changed.clear()
