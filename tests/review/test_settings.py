from __future__ import annotations

import pytest

from examples.review.checks.review import Source
from examples.review.checks.settings import check_settings


def found(path: str, text: str) -> list[str]:
    findings = check_settings(Source(path, text.encode())).findings
    return [f"{finding.line} {finding.rule}" for finding in findings]


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("a.toml", "[a]\nb = 1\n", []),
        ("a.toml", "[a]\nb = \n", ["2 does-not-parse"]),
        ("a.toml", "b = 1\nb = 2\n", ["2 does-not-parse"]),
        ("a.json", '{"a": {"b": 1}}', []),
        ("a.json", '{"a": 1,\n "a": 2}', ["2 duplicate-key"]),
        ("a.json", '{"a": 1,\n}', ["2 does-not-parse"]),
        ("a.json", "[" * 100_000, ["1 too-deep"]),
        ("a.ini", "[a]\nb = 1\n[c]\n", []),
        ("a.cfg", "b = 1\n", ["1 does-not-parse"]),
        ("a.cfg", "[a]\nb = 1\nb = 2\n", ["3 duplicate-key"]),
        ("a.cfg", "[a]\n[a]\n", ["2 duplicate-key"]),
        ("a.ini", "[a]\npassword = hunter2\n", ["2 secret-in-settings"]),
        ("a.toml", 'api_key = "abc123def"\n', ["1 secret-in-settings"]),
        ("a.toml", 'api_key = "${API_KEY}"\n', []),
        ("a.toml", 'api_key = ""\n', []),
        ("a.json", '{"url": "http://example.org/x"}', ["1 plain-http"]),
        ("a.json", '{"url": "http://localhost:80/x"}', []),
        ("a.json", '{"a":' * 9 + "1" + "}" * 9, ["1 too-deep"]),
    ],
)
def test_faults_of_settings_are_found(path: str, text: str, expected: list[str]) -> None:
    assert found(path, text) == expected


def test_a_secret_is_told_without_its_value() -> None:
    review = check_settings(Source("a.ini", b"[db]\npassword = hunter2\n"))

    assert "hunter2" not in str(review)
    assert review.findings[0].message == "db.password holds a secret in the clear (7 characters)"


def test_settings_are_counted_with_their_depth() -> None:
    facts = check_settings(Source("a.toml", b"[a.b]\nc = 1\nd = [{e = 2}]\n")).facts

    assert facts == {"settings": 2, "depth": 4, "format": "toml"}
