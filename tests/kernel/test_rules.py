from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from services.kernel.errors import InvalidArgument
from services.kernel.rules import Checker

Check = Callable[[Checker], Any]

RIGHT: list[Check] = [
    lambda c: c.identifier("f", "a"),
    lambda c: c.identifier("f", "a" * 64),
    lambda c: c.identifier("f", "agent-7"),
    lambda c: c.identifier("f", "", optional=True),
    lambda c: c.key("f", "Order:2024_7.b-1"),
    lambda c: c.key("f", "", optional=True),
    lambda c: c.capability("f", "text.summarize"),
    lambda c: c.capabilities("f", ["a", "b:c", "d_e"]),
    lambda c: c.name("f", "Ännchen 🤖"),
    lambda c: c.text("f", "x" * 1_024),
    lambda c: c.integer("f", 9, 0, 9),
    lambda c: c.finite("f", 0.0, 0.0),
    lambda c: c.duration("f", Duration(seconds=1, nanos=999_999_999)),
    lambda c: c.labels("f", {"team.a/x": "Größe"}),
    lambda c: c.length("f", 3, 3),
    lambda c: c.size("f", 10, 10),
    lambda c: c.require("f", True, "must hold"),
]

WRONG: list[Check] = [
    lambda c: c.identifier("f", ""),
    lambda c: c.identifier("f", "a" * 65),
    lambda c: c.identifier("f", "a\n"),
    lambda c: c.identifier("f", "-a"),
    lambda c: c.identifier("f", "../a"),
    lambda c: c.identifier("f", "A"),
    lambda c: c.identifier("f", "a\x00"),
    lambda c: c.key("f", ""),
    lambda c: c.key("f", "x" * 129),
    lambda c: c.key("f", "x" * 65, len_max=64),
    lambda c: c.key("f", "a b"),
    lambda c: c.capability("f", "*"),
    lambda c: c.capability("f", "text.*"),
    lambda c: c.capability("f", ""),
    lambda c: c.capability("f", "a" * 65),
    lambda c: c.capability("f", "a\n"),
    lambda c: c.capabilities("f", [f"c{n}" for n in range(65)]),
    lambda c: c.name("f", "", optional=False),
    lambda c: c.name("f", "x" * 129),
    lambda c: c.name("f", "line\nbreak"),
    lambda c: c.name("f", "\x1b[2J"),
    lambda c: c.name("f", "evil\u202egnp.exe"),
    lambda c: c.name("f", "zero\u200bwidth"),
    lambda c: c.name("f", "lone \ud800"),
    lambda c: c.name("f", "e\u0301"),
    lambda c: c.text("f", "x" * 1_025),
    lambda c: c.integer("f", -5, 0, 9),
    lambda c: c.integer("f", 2**31, 0, 9),
    lambda c: c.finite("f", float("nan")),
    lambda c: c.finite("f", float("inf")),
    lambda c: c.finite("f", float("nan"), 0.0, 1.0),
    lambda c: c.finite("f", -0.1, 0.0),
    lambda c: c.finite("f", 1.5, 0.0, 1.0),
    lambda c: c.duration("f", Duration(seconds=-1)),
    lambda c: c.duration("f", Duration(seconds=100 * 365 * 86_400)),
    lambda c: c.duration("f", Duration(seconds=1, nanos=10**9)),
    lambda c: c.duration("f", Duration(seconds=1, nanos=-1)),
    lambda c: c.labels("f", {str(n): "" for n in range(33)}),
    lambda c: c.labels("f", {"": "x"}),
    lambda c: c.labels("f", {"key": "x" * 257}),
    lambda c: c.labels("f", {"key": "\x00"}),
    lambda c: c.labels("f", {"<img src=x>": "x"}),
    lambda c: c.length("f", 4, 3),
    lambda c: c.length("f", 0, 3, low=1),
    lambda c: c.size("f", 11, 10),
    lambda c: c.require("f", False, "must hold"),
]


@pytest.mark.parametrize("check", RIGHT)
def test_a_right_value_passes(check: Check) -> None:
    checker = Checker()

    assert check(checker)
    assert checker
    checker.done()


@pytest.mark.parametrize("check", WRONG)
def test_a_wrong_value_is_told_with_its_path_and_what_it_must_be(check: Check) -> None:
    checker = Checker()

    assert not check(checker)
    assert not checker
    with pytest.raises(InvalidArgument, match=r"^f.* must ") as caught:
        checker.done()
    assert caught.value.reason == "INVALID_FIELD"
    assert all(violation.field.startswith("f") for violation in caught.value.violations)


def test_every_violation_is_told_at_once() -> None:
    checker = Checker()
    checker.integer("tasks[0].priority", 10, 0, 9)
    checker.capabilities("tasks[1].required_capabilities", ["fine", "NOT", "*"])

    with pytest.raises(InvalidArgument) as caught:
        checker.done()

    assert [violation.field for violation in caught.value.violations] == [
        "tasks[0].priority",
        "tasks[1].required_capabilities[1]",
        "tasks[1].required_capabilities[2]",
    ]
    assert str(caught.value) == "tasks[0].priority must be from 0 to 9 (2 more)."


def test_a_hostile_label_key_is_shown_escaped() -> None:
    checker = Checker()
    checker.labels("labels", {"\x1b[2J\u202e": "x"})

    with pytest.raises(InvalidArgument) as caught:
        checker.done()
    assert str(caught.value).isascii() and "\x1b" not in str(caught.value)
