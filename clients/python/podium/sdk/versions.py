"""Versions that required capabilities carry: `name@2.1` asks for at least 2.1.

A version is numbers with dots, as `2`, `v2.1` or `2.1.0-rc.1`; the order is that of the services.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

Rank = tuple[tuple[int, ...], bool, tuple[tuple[bool, int, str], ...]]

_WRITTEN = re.compile(
    r"v?([0-9]{1,9}(?:\.[0-9]{1,9})*)(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+.+)?"
)
_LEN_MAX = 32


def rank(version: str) -> Rank | None:
    """Returns where a version stands among others; None for one that has no place."""
    found = _WRITTEN.fullmatch(version) if len(version) <= _LEN_MAX else None
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


def plain(wanted: str) -> str:
    """Returns the name of a required capability without its version."""
    return wanted.partition("@")[0]


def meets(have: Mapping[str, str], wanted: Iterable[str]) -> bool:
    """Tells whether there is all that is wanted.

    Args:
        have: the version of each capability by its name; "" where it names none.
        wanted: names, some with the least version.
    """
    return all(_is_met(have, each) for each in wanted)


def _is_met(have: Mapping[str, str], wanted: str) -> bool:
    name, asks, version = wanted.partition("@")
    if not asks or name not in have:
        return name in have
    least, found = rank(version), rank(have[name])
    return least is not None and found is not None and found >= least
