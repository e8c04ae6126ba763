"""Profiles tables: what is in each column, and which values do not fit in."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from examples.review.checks.review import Finding, Review, Source

ROWS_MAX = 50_000
COLUMNS_MAX = 200
DISTINCT_MAX = 10_000
# Values this many robust deviations from the median are outliers (Iglewicz and Hoaglin).
OUTLIER_SCORE = 3.5

_MISSING = frozenset({"", "-", "n/a", "na", "nan", "none", "null", "?"})


@dataclass(slots=True)
class Table:
    """A table as text; numbers of rows are lines of the file."""

    header: list[str] = field(default_factory=list)
    rows: list[tuple[int, list[str]]] = field(default_factory=list)
    faults: list[Finding] = field(default_factory=list)


def profile_table(source: Source) -> Review:
    """Profiles one table: comma or tab separated, JSON lines, or a JSON list of objects."""
    table = _read_json(source) if _is_json(source.path) else _read_separated(source)
    columns = []
    findings = list(table.faults)
    for index, name in enumerate(table.header[:COLUMNS_MAX]):
        values = [(line, row[index].strip()) for line, row in table.rows if index < len(row)]
        profile, odd = _profile(source, name, values)
        columns.append(profile)
        findings += odd
    return Review.of(findings, rows=len(table.rows), columns=columns)


def _is_json(path: str) -> bool:
    return path.lower().endswith((".json", ".jsonl", ".ndjson"))


def separator_of(first_lines: Sequence[str]) -> str:
    """Returns the separator that splits the first lines most evenly."""

    def evenness(separator: str) -> tuple[float, int]:
        counts = [line.count(separator) for line in first_lines if line.strip()]
        if not counts or max(counts) == 0:
            return (0.0, 0)
        common, times = Counter(counts).most_common(1)[0]
        return (times / len(counts) if common else 0.0, common)

    return max((",", "\t", ";", "|"), key=evenness)


def _read_separated(source: Source) -> Table:
    text = source.text()
    lines = text.splitlines()
    table = Table()
    reader = csv.reader(io.StringIO(text), delimiter=separator_of(lines[:50]))
    try:
        for row in islice(reader, ROWS_MAX + 1):
            line = reader.line_num + source.first_line - 1
            if not any(cell.strip() for cell in row):
                continue
            if not table.header:
                table.header = [cell.strip() or f"column {i}" for i, cell in enumerate(row, 1)]
                continue
            table.rows.append((line, row))
    except csv.Error as error:
        line = reader.line_num + source.first_line - 1
        table.faults.append(Finding(source.path, line, "unreadable-row", str(error), "error"))
    table.faults += _ragged(source, table)
    return table


def _ragged(source: Source, table: Table) -> Iterator[Finding]:
    wanted = len(table.header)
    for name, times in Counter(table.header).items():
        if times > 1:
            said = f"column {name!r} is there {times} times"
            yield Finding(source.path, source.first_line, "duplicate-column", said, "error")
    for line, row in table.rows:
        if len(row) != wanted:
            said = f"{len(row)} cells where the header has {wanted}"
            yield Finding(source.path, line, "ragged-row", said, "error")


def _read_json(source: Source) -> Table:
    table = Table()
    names: dict[str, None] = {}
    records = []
    for line, value in islice(_json_values(source, table), ROWS_MAX):
        if isinstance(value, dict):
            names.update(dict.fromkeys(value))
            records.append((line, value))
        else:
            said = f"a row is {type(value).__name__}, not an object"
            table.faults.append(Finding(source.path, line, "ragged-row", said, "error"))
    table.header = list(names)
    table.rows = [(line, [_cell(record.get(n)) for n in names]) for line, record in records]
    return table


def _json_values(source: Source, table: Table) -> Iterator[tuple[int, Any]]:
    text = source.text()
    if text.lstrip().startswith("["):
        try:
            yield from ((source.first_line, value) for value in json.loads(text))
        except (ValueError, RecursionError) as error:
            said = str(error) or "nested too deeply"
            table.faults.append(Finding(source.path, 1, "unreadable-row", said, "error"))
        return
    for number, line in enumerate(text.splitlines(), source.first_line):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                said = str(error) or "nested too deeply"
                table.faults.append(Finding(source.path, number, "unreadable-row", said, "error"))


def _cell(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _profile(
    source: Source, name: str, values: Sequence[tuple[int, str]]
) -> tuple[dict[str, Any], list[Finding]]:
    present = [(line, value) for line, value in values if value.lower() not in _MISSING]
    kinds = Counter(kind_of(value) for _, value in present)
    distinct = len(set(islice((value for _, value in present), DISTINCT_MAX)))
    kind = _kind(kinds)
    profile: dict[str, Any] = {
        "name": name,
        "type": kind,
        "missing": len(values) - len(present),
        "distinct": distinct,
    }
    findings = list(_odd_ones(source, name, values, present, kinds, distinct))
    if kind in ("integer", "number"):
        numbers = [(line, n) for line, value in present if (n := _number(value)) is not None]
        figures = [number for _, number in numbers]
        profile |= {
            "min": min(figures),
            "max": max(figures),
            "mean": round(statistics.fmean(figures), 6),
        }
        findings += _outliers(source, name, numbers)
    return profile, findings


def kind_of(value: str) -> str:
    """Tells what a cell looks like: integer, number, truth, date or text."""
    if value.lower() in ("true", "false", "yes", "no"):
        return "truth"
    number = _number(value)
    if number is not None:
        return "integer" if value.lstrip("+-").isdigit() else "number"
    if len(value) >= 8 and value[:4].isdigit() and value[4] in "-/" and value[5:7].isdigit():
        return "date"
    return "text"


def _number(value: str) -> float | None:
    try:
        number = float(value.replace("_", "x"))  # 1_000 is a number to Python alone
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _kind(kinds: Counter[str]) -> str:
    """Names the type of a column by what nine tenths of its cells are."""
    total = sum(kinds.values())
    if not total:
        return "empty"
    if kinds["integer"] + kinds["number"] >= 0.9 * total:
        return "number" if kinds["number"] else "integer"
    kind, count = kinds.most_common(1)[0]
    return kind if count >= 0.9 * total else "mixed"


def _odd_ones(
    source: Source,
    name: str,
    values: Sequence[tuple[int, str]],
    present: Sequence[tuple[int, str]],
    kinds: Counter[str],
    distinct: int,
) -> Iterator[Finding]:
    missing = len(values) - len(present)
    head = source.first_line
    if values and missing > len(values) / 2:
        said = f"{name!r} is missing in {missing} of {len(values)} rows"
        yield Finding(source.path, head, "mostly-missing", said)
    if len(present) >= 10 and distinct == 1:
        said = f"{name!r} is always {present[0][1]!r}"
        yield Finding(source.path, head, "constant-column", said, "note")
    if _kind(kinds) in ("integer", "number"):
        for line, value in present:
            if _number(value) is None:
                said = f"{name!r} is {value[:40]!r} where numbers are"
                yield Finding(source.path, line, "wrong-type", said, "error")


def _outliers(source: Source, name: str, numbers: Sequence[tuple[int, float]]) -> Iterator[Finding]:
    if len(numbers) < 20:
        return
    middle = statistics.median(number for _, number in numbers)
    spread = statistics.median(abs(number - middle) for _, number in numbers)
    if spread == 0:
        return
    for line, number in numbers:
        score = 0.6745 * abs(number - middle) / spread
        if score > OUTLIER_SCORE:
            said = f"{name!r} is {number:g}, far from the median {middle:g}"
            yield Finding(source.path, line, "outlier", said, "note")
