"""A figure as a line of a table."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """What was measured, what came out, and what was wanted."""

    what: str
    figure: str
    goal: str = ""
