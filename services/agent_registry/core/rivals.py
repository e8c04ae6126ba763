"""Several instances of one agent: which of them stays.

An instance that another one has followed is superseded for good, as long as the agent is there:
whoever keeps coming back cannot take turns with it.
"""

from __future__ import annotations

from typing import NamedTuple

superseded_len_max = 8
"""Superseded instances that are remembered of an agent; the oldest are forgotten."""


class Rival(NamedTuple):
    """An instance of an agent with a session of its own."""

    instance_id: str
    since_ms: int
    """When its session began."""
    superseded: tuple[str, ...] = ()
    """Instances that it is known to have followed."""


def stays(one: Rival, other: Rival) -> bool:
    """Return whether the first of two instances stays; for the same two, one of them does."""
    barred, bars = one.instance_id in other.superseded, other.instance_id in one.superseded
    if barred is not bars:
        return bars
    return (one.since_ms, one.instance_id) > (other.since_ms, other.instance_id)


def followed(superseded: tuple[str, ...], gone: str, instance_id: str) -> tuple[str, ...]:
    """Return which instances are superseded once `instance_id` has followed `gone`."""
    rest = [each for each in superseded if each not in (gone, instance_id)]
    return tuple([*rest, gone] if gone else rest)[-superseded_len_max:]
