from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from services.kernel.logs import escaped, setup_logging

HOSTILE = "name\r\n2024 E forged\x1b[2J\u202e\u2028\x00"


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root, podium = logging.getLogger(), logging.getLogger("podium")
    handlers, levels = root.handlers[:], (root.level, podium.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    podium.setLevel(levels[1])


@pytest.mark.parametrize("profile", ["development", "production"])
def test_hostile_text_stays_on_its_line(profile: str) -> None:
    stream = io.StringIO()
    setup_logging(profile, "info", service="toy", stream=stream)
    logging.getLogger("podium.toy").info("joined: %s", HOSTILE, extra={"agent": HOSTILE})

    said = stream.getvalue()

    assert said.count("\n") == 1 and said.endswith("\n")
    assert not set(said[:-1]) & set("\r\n\x1b\u202e\u2028\x00")


def test_production_writes_json_with_the_fields() -> None:
    stream = io.StringIO()
    setup_logging("production", "info", service="routing", stream=stream)
    logging.getLogger("podium.routing").warning("slow %d", 7, extra={"trace_id": "ab" * 16})

    line = json.loads(stream.getvalue())

    assert (line["level"], line["service"], line["message"]) == ("warning", "routing", "slow 7")
    assert line["trace_id"] == "ab" * 16 and line["time"].endswith("Z")


@pytest.mark.parametrize("profile", ["development", "production"])
def test_an_exception_is_told_with_its_trace(profile: str) -> None:
    stream = io.StringIO()
    setup_logging(profile, "info", stream=stream)
    try:
        raise ValueError("evil\x1b[2J")
    except ValueError:
        logging.getLogger("podium.toy").exception("failed")

    said = stream.getvalue()
    assert "Traceback" in said and "\x1b" not in said


def test_the_level_is_that_of_podium_alone() -> None:
    stream = io.StringIO()
    setup_logging("development", "debug", stream=stream)
    logging.getLogger("podium.toy").debug("ours")
    logging.getLogger("aiohttp").debug("theirs")

    assert "ours" in stream.getvalue() and "theirs" not in stream.getvalue()


def test_plain_text_is_left_alone() -> None:
    assert escaped("Größe 🤖 ok") == "Größe 🤖 ok"
