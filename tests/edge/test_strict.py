from __future__ import annotations

import pytest

from services.edge.adapters.strict import Fault, parse


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "INVALID_JSON"),
        ("   ", "INVALID_JSON"),
        ("\ufeff{}", "INVALID_JSON"),
        ("{} {}", "INVALID_JSON"),
        ("{}x", "INVALID_JSON"),
        ("{'a': 1}", "INVALID_JSON"),
        ('{"a": 01}', "INVALID_JSON"),
        ('{"a": "\t"}', "INVALID_JSON"),
        ('{"a": NaN}', "INVALID_JSON"),
        ('{"a": Infinity}', "INVALID_JSON"),
        ('{"a": -Infinity}', "INVALID_JSON"),
        ('{"a": ' + "9" * 5_000 + "}", "INVALID_JSON"),
        ('{"a": 1, "a": 1}', "DUPLICATE_KEY"),
        ('{"b": {"a": 1, "\\u0061": 2}}', "DUPLICATE_KEY"),
        ("[" * 5_000, "JSON_TOO_DEEP"),
        ('{"a":' * 5_000, "JSON_TOO_DEEP"),
    ],
)
def test_what_parsers_let_pass_is_refused(text: str, reason: str) -> None:
    with pytest.raises(Fault) as caught:
        parse(text)

    assert caught.value.reason == reason


def test_names_that_mean_something_to_javascript_are_data() -> None:
    assert parse('{"__proto__": 1, "constructor": 2}') == {"__proto__": 1, "constructor": 2}
