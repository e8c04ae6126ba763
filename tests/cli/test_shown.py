from __future__ import annotations

import time

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from podium.cli import shown
from podium.v1.task_pb2 import Payload, Task


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (Payload(content_type="application/json", data=b'{"a":1}'), '{\n  "a": 1\n}'),
        (Payload(content_type="image/png", data=b"abc"), "3 bytes of image/png"),
        (Payload(data=b"two\nlines"), "two\nlines"),
        (Payload(data=b"\xff\xfe"), "2 bytes of unknown type"),
        (Payload(data=b"\x1b[31m"), "5 bytes of unknown type"),
        (Payload(), ""),
    ],
)
def test_a_payload_is_shown_as_what_it_is(payload: Payload, text: str) -> None:
    assert shown.payload(payload) == text


def test_a_moment_names_the_zone_it_is_told_in(monkeypatch: pytest.MonkeyPatch) -> None:
    summer, winter = Timestamp(seconds=1_783_000_000), Timestamp(seconds=1_798_000_000)
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        told = [shown.moment(summer), shown.moment(winter), shown.moment(Timestamp())]
    time.tzset()

    assert told == ["2026-07-02 15:46:40 CEST", "2026-12-23 05:26:40 CET", ""]


def test_states_are_open_or_ended() -> None:
    states = set(shown.STATES.values()) - set(shown.ENDED)
    still_open = {Task.State.Name(state) for state in states}
    assert still_open == {
        f"STATE_{name}"
        for name in (
            *("DELAYED", "BLOCKED", "QUEUED", "ASSIGNED", "RUNNING"),
            *("INPUT_REQUIRED", "RETRY_WAIT", "PAUSED"),
        )
    }
