"""What can be saved of a damaged log: one stretch of it that is whole and can be begun with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from services.kernel.errors import FailedPrecondition
from services.task_scheduler.adapters.chain import Chain
from services.task_scheduler.adapters.snapshots import Facts


class Stretch(NamedTuple):
    """A part of a log whose chain holds."""

    begin: Facts
    """The event before the first."""
    end: Facts
    """The last event that can be trusted."""
    snapshots: list[Facts]
    """The whole ones that lie on it."""


class Plan(NamedTuple):
    """What is kept of a log; the rest is cut off, before it and behind it."""

    kept: Stretch
    costs: str
    """For people, in a sentence or two."""


class Walk:
    """Notes what is met on the way along a chain."""

    def __init__(self, where: str, begin: Facts, snapshots: Sequence[Facts]) -> None:
        self.chain = Chain(where, *begin)
        self._begin = begin
        self._snapshots = snapshots
        self._met = [begin] if begin in snapshots else []

    def step(self) -> None:
        """Note that the chain holds up to where it is now."""
        if (here := _at(self.chain)) in self._snapshots:
            self._met.append(here)

    def walked(self) -> Stretch:
        """Return what lies behind."""
        return Stretch(self._begin, _at(self.chain), self._met)


def furthest(where: str, stretches: Sequence[Stretch]) -> Stretch:
    """Return the one to keep.

    Raises:
        FailedPrecondition: JOURNAL_DAMAGED: none can be begun with.
    """
    usable = [one for one in stretches if one.snapshots or not one.begin.seq]
    if not usable:
        raise FailedPrecondition(
            "JOURNAL_DAMAGED",
            f"the journal {where} cannot be mended: its first events are dropped, and no whole "
            "snapshot is left to begin with. Nothing was changed: restore a backup",
        )
    # Of those that reach as far, the one that keeps the most.
    return max(usable, key=lambda one: (one.end.seq, -one.begin.seq))


def plan(of: str, base: Facts, kept: Stretch, *, more: bool) -> Plan:
    """Tell what it costs to keep a stretch.

    Args:
        of: Which log, for people.
        base: The event before the first of the log as it is.
        kept: The stretch.
        more: Whether anything is known to have happened behind it.
    """
    told = []
    if kept.begin.seq > base.seq:
        told.append(
            f"The events from {base.seq + 1} to {kept.begin.seq}{of} are dropped; a snapshot holds "
            "what they did, so no task is lost by that."
        )
    if more or base.seq > kept.end.seq:
        all_of_it = "" if kept.end.seq else ", which is all of it"
        told.append(f"What happened behind event {kept.end.seq}{of} is lost{all_of_it}.")
    return Plan(kept, " ".join(told) or f"Nothing{of} is lost.")


def _at(chain: Chain) -> Facts:
    return Facts(chain.last_seq, chain.last_hash)
