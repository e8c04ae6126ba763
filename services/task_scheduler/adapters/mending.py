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
        self._begin = self._before = self._here = begin
        self._snapshots = snapshots
        self._met = [begin] if begin in snapshots else []

    def step(self) -> None:
        """Note that the chain holds up to where it is now."""
        self._before, self._here = self._here, Facts(self.chain.last_seq, self.chain.last_hash)
        if self._here in self._snapshots:
            self._met.append(self._here)

    @property
    def last_first_seq(self) -> int:
        """The event that the last group begins with."""
        return self._before.seq + 1

    def walked(self, following_seq: int) -> Stretch:
        """Return what lies behind; the group after the last one begins with `following_seq`."""
        # No hash covers where a group ends: one that ends in the next one is damaged itself.
        end = self._before if 0 < following_seq <= self._here.seq else self._here
        return Stretch(self._begin, end, [one for one in self._met if one.seq <= end.seq])


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
