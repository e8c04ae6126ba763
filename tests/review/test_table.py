from __future__ import annotations

from pathlib import Path

import pytest

import examples.review
from examples.review.checks.review import Source
from examples.review.checks.table import kind_of, profile_table, separator_of

SAMPLES = Path(examples.review.__file__).parent / "samples"


def profile(text: str, path: str = "t.csv") -> tuple[dict[str, dict[str, object]], list[str]]:
    review = profile_table(Source(path, text.encode()))
    columns = {column["name"]: column for column in review.facts["columns"]}
    return columns, [f"{f.line} {f.rule}" for f in review.findings]


def test_columns_are_told_apart_and_measured() -> None:
    columns, findings = profile(
        "id,price,day,note,yes\n1,2.5,2025-01-02,a,true\n2,,2025-01-03,b,no\n3,4.5,2025-01-04,,no\n"
    )

    assert columns["id"] == {
        "name": "id",
        "type": "integer",
        "missing": 0,
        "distinct": 3,
        "min": 1.0,
        "max": 3.0,
        "mean": 2.0,
    }
    assert columns["price"]["type"] == "number"
    assert columns["price"]["missing"] == 1
    assert columns["price"]["mean"] == 3.5
    assert [columns[name]["type"] for name in ("day", "note", "yes")] == ["date", "text", "truth"]
    assert findings == []


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("12", "integer"),
        ("-12", "integer"),
        ("1e3", "number"),
        ("0.5", "number"),
        ("1_000", "text"),
        ("inf", "text"),
        ("nan", "text"),
        ("yes", "truth"),
        ("2025-02-01", "date"),
        ("2025/02/01 10:00", "date"),
        ("20250201", "integer"),
        ("", "text"),
    ],
)
def test_a_cell_is_what_it_looks_like(value: str, kind: str) -> None:
    assert kind_of(value) == kind


@pytest.mark.parametrize(
    ("lines", "separator"),
    [
        (["a,b,c", "1,2,3"], ","),
        (["a\tb", "1,5\t2"], "\t"),
        (["a;b;c", "1,5;2,5;3"], ";"),
        (["only"], ","),
    ],
)
def test_the_separator_is_the_one_that_splits_evenly(lines: list[str], separator: str) -> None:
    assert separator_of(lines) == separator


def test_an_outlier_is_far_from_the_median_in_terms_of_the_others() -> None:
    rows = "\n".join(str(100 + i % 7) for i in range(40))

    _, findings = profile(f"x\n{rows}\n900\n")

    assert findings == ["42 outlier"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b\n1,2\n3\n", ["3 ragged-row"]),
        ("a,a\n1,2\n", ["1 duplicate-column"]),
        ("a\n" + "1\n" * 19 + "many\n", ["21 wrong-type"]),
        ("a,b\n" + "x,1\n" * 10, ["1 constant-column", "1 constant-column"]),
        ("a,b\n1,\n2,\n3,x\n", ["1 mostly-missing"]),
        ("", []),
        ("a,b\n", []),
        ('a\n"never closed\n', []),
    ],
)
def test_rows_and_columns_that_do_not_fit_are_found(text: str, expected: list[str]) -> None:
    assert profile(text)[1] == expected


def test_lines_of_json_are_a_table_and_broken_ones_are_told() -> None:
    columns, findings = profile('{"a": 1, "b": 5}\n{"a": 2, "b": null}\n{"a"\n[1]\n', "t.jsonl")

    assert columns["a"]["max"] == 2.0
    assert columns["b"]["missing"] == 1
    assert findings == ["3 unreadable-row", "4 ragged-row"]


def test_a_json_list_of_objects_is_a_table() -> None:
    columns, findings = profile('[{"a": 1}, {"a": 3}]', "t.json")

    assert columns["a"]["mean"] == 2.0
    assert findings == []


def test_a_field_longer_than_the_reader_takes_is_a_finding() -> None:
    assert profile("a\n" + "x" * 200_000 + "\n")[1] == ["2 unreadable-row"]


def test_the_faults_planted_in_the_samples_are_found() -> None:
    found = {
        path.name: profile_table(Source(path.name, path.read_bytes())).counts
        for path in SAMPLES.iterdir()
    }

    assert found == {
        "climate.tsv": {"outlier": 2, "mostly-missing": 1},
        "shipments.csv": {"ragged-row": 1, "wrong-type": 1, "outlier": 1, "constant-column": 1},
        "tickets.jsonl": {"unreadable-row": 1, "wrong-type": 1, "outlier": 1},
    }
