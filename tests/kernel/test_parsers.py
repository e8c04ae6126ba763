from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.kernel import parsers

RIGHT: list[tuple[Any, str, Any]] = [
    (parsers.as_text, "x y", "x y"),
    (parsers.as_path, "/tmp/x", Path("/tmp/x")),
    (parsers.as_integer(-5, 5), "-5", -5),
    (parsers.as_count, "1", 1),
    (parsers.as_port, "0", 0),
    (parsers.as_port, "65535", 65_535),
    (parsers.as_seconds, "15", 15.0),
    (parsers.as_seconds, "0.5", 0.5),
    (parsers.as_seconds, "250ms", 0.25),
    (parsers.as_seconds, "5m", 300.0),
    (parsers.as_size, "64KiB", 65_536),
    (parsers.as_size, "1.5 MB", 1_500_000),
    (parsers.as_fraction, "0.25", 0.25),
    (parsers.as_flag, "On", True),
    (parsers.as_flag, "0", False),
    (parsers.as_choice("a", "b"), "B", "b"),
    (parsers.as_address, "localhost:7701", "localhost:7701"),
    (parsers.as_address, "[::1]:7701", "[::1]:7701"),
    (parsers.as_endpoint, "http://collector:4317/", "collector:4317"),
    (parsers.as_endpoint, "OFF", "off"),
    (parsers.as_replicas, "host:7701", "host:7701"),
    (parsers.as_replicas, "10.0.0.1:7701, 10.0.0.2:7701", "10.0.0.1:7701,10.0.0.2:7701"),
]

WRONG: list[tuple[Any, str]] = [
    (parsers.as_integer(-5, 5), "6"),
    (parsers.as_integer(-5, 5), "1.0"),
    (parsers.as_count, "0"),
    (parsers.as_port, "65536"),
    (parsers.as_port, "http"),
    (parsers.as_seconds, "0"),
    (parsers.as_seconds, "-1"),
    (parsers.as_seconds, "nan"),
    (parsers.as_seconds, "5 parsecs"),
    (parsers.as_size, "0"),
    (parsers.as_size, "4 bananas"),
    (parsers.as_fraction, "1.01"),
    (parsers.as_fraction, "nan"),
    (parsers.as_flag, "maybe"),
    (parsers.as_choice("a", "b"), "c"),
    (parsers.as_replicas, "10.0.0.1:7701,host:7701"),
    (parsers.as_replicas, "10.0.0.1:7701,"),
    (parsers.as_address, "7701"),
    (parsers.as_address, ":7701"),
    (parsers.as_address, "host:0"),
    (parsers.as_address, "host:"),
    (parsers.as_address, "two words:1"),
    (parsers.as_address, "http://host:1"),
]


@pytest.mark.parametrize(("parse", "text", "value"), RIGHT)
def test_right_text_becomes_its_value(parse: Any, text: str, value: Any) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(("parse", "text"), WRONG)
def test_wrong_text_is_told_what_it_must_be(parse: Any, text: str) -> None:
    with pytest.raises(ValueError, match=r"^must be "):
        parse(text)
