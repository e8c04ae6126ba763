"""The report as Markdown and JSON files, and on the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from examples.review.report import Report
from examples.review.sections import Section, sections_of

STYLES = {
    "error": "bold red",
    "warning": "yellow",
    "note": "dim",
    "open": "bold red",
    "half-open": "yellow",
    "closed": "green",
}


def write(report: Report, folder: Path) -> tuple[Path, Path]:
    """Writes the report for programs and for people, and returns where."""
    folder.mkdir(parents=True, exist_ok=True)
    for_programs = folder / "review-report.json"
    for_people = folder / "review-report.md"
    for_programs.write_text(json.dumps(report.as_json(), indent=1) + "\n", "utf-8")
    for_people.write_text(markdown(sections_of(report)), "utf-8")
    return for_programs, for_people


def markdown(sections: Iterable[Section]) -> str:
    """Returns the sections as Markdown. What comes out of files is never markup."""
    told = ["# Podium review", ""]
    for section in sections:
        told += [f"## {section.title}", ""]
        for line in section.lines:
            told += [_plain(line), ""]
        if section.rows:
            told.append(_row(section.header))
            told.append(
                _row("--:" if i in section.numbers else "---" for i in range(len(section.header)))
            )
            told += [_row(map(_plain, row)) for row in section.rows]
            told.append("")
    return "\n".join(told)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    for sign in "\\`*_[]<>|#":
        text = text.replace(sign, "\\" + sign)
    return text.replace("\n", " ")


def show(report: Report, console: Console) -> None:
    """Prints the report on the terminal."""
    for section in sections_of(report):
        console.print()
        console.print(Text(section.title, style="bold cyan"))
        for line in section.lines:
            style = "bold red" if line.startswith("DOES NOT ADD UP") else ""
            console.print(Padding(Text(line, style=style), (0, 0, 0, 2), expand=False))
        if section.rows:
            console.print(Padding(_table(section), (0, 0, 0, 2), expand=False))


def _table(section: Section) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", show_edge=False)
    for index, name in enumerate(section.header):
        right = index in section.numbers
        # Names and places are cut off in the middle of nothing: they fold instead.
        table.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=right)
    for row in section.rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: Sequence[str]) -> list[Text]:
    return [Text(cell, style=STYLES.get(cell, "")) for cell in row]
