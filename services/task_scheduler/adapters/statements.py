"""SQL from the files beside: named statements, and numbered migrations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import NamedTuple

_ROOT = files("services.task_scheduler.adapters").joinpath("sql")
_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_READABLE = re.compile(r"^-- readable by schema: (\d+)$", re.MULTILINE)
_MIGRATION = re.compile(r"(\d{4})_\w+\.sql").fullmatch


class Migration(NamedTuple):
    """One numbered step of a schema."""

    number: int
    text: str
    readable_by: int
    """The oldest schema whose program can still use the tables behind this step."""


def statements(folder: str) -> Mapping[str, str]:
    """Return the named statements of a database."""
    parts = _NAME.split(_ROOT.joinpath(folder, "statements.sql").read_text("utf-8"))
    return {name: _bare(text) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def migrations(folder: str) -> list[Migration]:
    """Return the steps of a database's schema, in order."""
    found = []
    for file in _ROOT.joinpath(folder).iterdir():
        numbered = _MIGRATION(file.name)
        if numbered is not None:
            number, text = int(numbered[1]), file.read_text("utf-8")
            readable = _READABLE.search(text)
            found.append(Migration(number, text, int(readable[1]) if readable else number))
    found.sort()
    assert [step.number for step in found] == list(range(1, len(found) + 1)), folder
    return found


def _bare(text: str) -> str:
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return " ".join(" ".join(lines).split()).removesuffix(";")
