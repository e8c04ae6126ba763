from __future__ import annotations

import pytest

from podium.cli import shown
from podium.v1.task_pb2 import Payload


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
