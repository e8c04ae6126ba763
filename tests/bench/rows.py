"""Figures as rows of one table: what was measured, and beside it what is wanted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from rich.console import Console
from rich.table import Table


class Row(NamedTuple):
    """One figure."""

    what: str
    value: float
    unit: str = ""
    least: float | None = None
    """The goal, when more is better."""
    most: float | None = None
    """The goal, when less is better."""
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None when there is none."""
        if self.least is not None:
            return self.value >= self.least
        return None if self.most is None else self.value <= self.most

    @property
    def goal(self) -> str:
        """The goal as text."""
        if self.least is not None:
            return f">= {_number(self.least)}"
        return "" if self.most is None else f"<= {_number(self.most)}"


def show(title: str, rows: Iterable[Row], console: Console) -> None:
    """Print rows as a table."""
    table = Table(title=title, title_justify="left")
    for column in ("what", "value", "", "goal", "", "note"):
        table.add_column(column, justify="right" if column == "value" else "left")
    for row in rows:
        met = {True: "met", False: "[bold]missed[/bold]", None: ""}[row.met]
        table.add_row(row.what, _number(row.value), row.unit, row.goal, met, row.note)
    console.print(table)


def _number(value: float) -> str:
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"
