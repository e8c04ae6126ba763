"""What each capability class accepts, as a number that only counts up with what was granted.

A scheduler may grant `total - granted`: the free slots and a small look-ahead, so that an agent
that becomes free finds its next task here. A class in which nobody works accepts nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.routing.core.effects import Credited

if TYPE_CHECKING:
    from services.routing.core.board import Board
    from services.routing.core.fleet import CapabilityClass

look_ahead_len = 16


def total(kind: CapabilityClass, *, draining: bool) -> int:
    """Return the grants a class accepts since the stream began."""
    if draining or not kind.working_count:
        return kind.granted
    return kind.granted + max(0, kind.free_slots + look_ahead_len - kind.waiting)


def announce(board: Board) -> None:
    """Tell the scheduler what has changed; without one, remember it."""
    changed = board.fleet.changed
    if not changed or not board.dispatch_up:
        return
    for kind in sorted(changed, key=lambda kind: kind.class_id):
        credit = total(kind, draining=board.draining)
        if (credit, kind.agent_count) != kind.announced:
            kind.announced = (credit, kind.agent_count)
            board.effects.append(Credited(kind, credit))
    changed.clear()
