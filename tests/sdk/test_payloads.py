from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from podium.sdk import payloads
from podium.sdk.errors import TaskError
from podium.v1.task_pb2 import Payload


@dataclass
class Order:
    name: str
    count: int = 1
    price: float = 0.0
    tags: list[str] = field(default_factory=list)


class Model:
    """Speaks as pydantic's models do."""

    def __init__(self, text: str) -> None:
        self.text = text

    @classmethod
    def model_validate_json(cls, data: bytes) -> Model:
        if not data.startswith(b"{"):
            raise ValueError("1 validation error for Model")
        return cls(data.decode())

    def model_dump_json(self) -> str:
        return self.text


@pytest.mark.parametrize(
    ("value", "content_type", "data"),
    [
        (b"\x00\xff", "application/octet-stream", b"\x00\xff"),
        ("gr\u00fcn", "text/plain; charset=utf-8", "gr\u00fcn".encode()),
        ({"a": [1, 2.5, None]}, "application/json", b'{"a":[1,2.5,null]}'),
        ([], "application/json", b"[]"),
        (0, "application/json", b"0"),
        (Order("x"), "application/json", b'{"name":"x","count":1,"price":0.0,"tags":[]}'),
        (Model("{}"), "application/json", b"{}"),
        (None, "", b""),
        (Payload(content_type="image/png", data=b"p"), "image/png", b"p"),
    ],
)
def test_a_value_becomes_bytes_with_a_media_type(
    value: Any, content_type: str, data: bytes
) -> None:
    assert payloads.encode(value) == Payload(content_type=content_type, data=data)


@pytest.mark.parametrize(
    ("content_type", "data", "value"),
    [
        ("application/json", b'{"a":1}', {"a": 1}),
        ("Application/JSON; charset=utf-8", b"1", 1),
        ("application/problem+json", b"[]", []),
        ("text/markdown", b"# hi", "# hi"),
        ("image/png", b"\x89", b"\x89"),
        ("", b"\x01", b"\x01"),
        ("", b"", None),
    ],
)
def test_bytes_become_what_their_media_type_says(
    content_type: str, data: bytes, value: Any
) -> None:
    assert payloads.decode(Payload(content_type=content_type, data=data)) == value


@pytest.mark.parametrize(
    ("annotation", "data", "value"),
    [
        (bytes, b"\xff", b"\xff"),
        (str, b"text", "text"),
        (dict, b'{"a":1}', {"a": 1}),
        (Any, b"[1]", [1]),
        (None, b"7", 7),
        (Order, b'{"name":"x","count":2,"price":3}', Order("x", 2, 3)),
        (Payload, b"1", Payload(content_type="application/json", data=b"1")),
    ],
)
def test_a_handler_gets_what_it_is_annotated_to_take(
    annotation: Any, data: bytes, value: Any
) -> None:
    payload = Payload(content_type="application/json", data=data)

    assert payloads.decoder(annotation)(payload) == value


def test_a_model_is_made_by_its_own_validation() -> None:
    payload = Payload(content_type="application/json", data=b"{}")

    assert payloads.decoder(Model)(payload).text == "{}"


@pytest.mark.parametrize(
    ("annotation", "data", "told"),
    [
        (Order, b"{}", "name is missing"),
        (Order, b"[]", "is not an object"),
        (Order, b'{"name":1}', "name is not a string"),
        (Order, b'{"name":"x","count":1.5}', "count is not an integer"),
        (Order, b'{"name":"x","count":true}', "count is not an integer"),
        (Order, b'{"name":"x","price":"1"}', "price is not a number"),
        (Order, b'{"name":"x","tags":{}}', "tags is not a list"),
        (Order, b'{"name":"x","colour":1,"size":2}', "colour is not known; size is not known"),
        (dict, b"{", "not application/json"),
        (str, b"\xff", "not UTF-8"),
        (Model, b"no", "1 validation error"),
    ],
)
def test_a_payload_that_does_not_fit_fails_the_task_for_good_and_says_which_field(
    annotation: Any, data: bytes, told: str
) -> None:
    with pytest.raises(TaskError, match=told) as caught:
        payloads.decoder(annotation)(Payload(content_type="application/json", data=data))

    assert (caught.value.reason, caught.value.retryable) == ("INVALID_PAYLOAD", False)
