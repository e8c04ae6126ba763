"""Versions that names carry: `name@2.1` asks for at least 2.1, and offers 2.1.

A version is numbers with dots, as `2`, `v2.1` or `2.1.0-rc.1+build`: missing numbers count as 0, a
version with a hyphen comes before the one without, what follows a plus does not count. What is
written otherwise has no place in the order, so it meets no demand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

version_len_max = 32
"""Characters of a version."""
mark = "@"
"""Between a name and its version; no name has it."""

Rank = tuple[tuple[int, ...], bool, tuple[tuple[bool, int, str], ...]]

_WRITTEN = re.compile(
    r"v?([0-9]{1,9}(?:\.[0-9]{1,9})*)(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+.+)?"
)


@lru_cache(maxsize=4_096)
def rank(version: str) -> Rank | None:
    """Return where a version stands among others; None for one that has no place."""
    found = _WRITTEN.fullmatch(version) if len(version) <= version_len_max else None
    if found is None:
        return None
    numbers = [int(part) for part in found[1].split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    before = tuple(
        (False, int(part), "") if part.isdecimal() else (True, 0, part)
        for part in (found[2].split(".") if found[2] else ())
    )
    return tuple(numbers), not before, before


def offer(name: str, version: str) -> str:
    """Return what a name with a version offers; empty when nobody can ask for the version."""
    return f"{name}{mark}{version}" if rank(version) is not None else ""


def plain(wanted: str) -> str:
    """Return the name without its version."""
    return wanted.partition(mark)[0]


def covers(have: frozenset[str], wanted: frozenset[str]) -> bool:
    """Tell whether there is all that is wanted.

    Args:
        have: Names, and offers of those that have a version.
        wanted: Names, some with the least version.
    """
    if wanted <= have:
        return True
    return all(mark in each and _is_met(each, have) for each in wanted - have)


def offered(have: Iterable[str], wanted: str) -> list[str]:
    """Return the versions in which a name is there, the greatest first."""
    of = plain(wanted) + mark
    found = {each.removeprefix(of) for each in have if each.startswith(of)}
    return sorted(found, key=lambda version: rank(version) or ((), False, ()), reverse=True)


def _is_met(wanted: str, have: frozenset[str]) -> bool:
    least = rank(wanted.partition(mark)[2])
    ranks = map(rank, offered(have, wanted))
    return least is not None and any(each is not None and each >= least for each in ranks)
