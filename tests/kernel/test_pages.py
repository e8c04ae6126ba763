from __future__ import annotations

import base64

import pytest

from services.kernel.errors import InvalidArgument
from services.kernel.pages import decode_token, encode_token, page_size

KEY = b"k" * 32


def test_a_token_brings_its_position_back() -> None:
    token = encode_token("task-000042\x00ü", b"state=FAILED", KEY)

    assert decode_token(token, b"state=FAILED", KEY) == "task-000042\x00ü"


def test_the_first_page_has_no_token() -> None:
    assert decode_token("", b"any", KEY) == ""


def forged() -> list[str]:
    good = encode_token("position", b"mine", KEY)
    raw = bytearray(base64.urlsafe_b64decode(good + "=" * (-len(good) % 4)))
    raw[-1] ^= 1
    return [
        base64.urlsafe_b64encode(raw).rstrip(b"=").decode(),
        good[:10],
        good + "A",
        "A",
        "!!!!",
        "ü",
        "A" * 5_000,
        encode_token("position", b"mine", b"other key"),
        encode_token("position", b"yours", KEY),
    ]


@pytest.mark.parametrize("token", forged())
def test_a_forged_token_or_one_of_other_arguments_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decode_token(token, b"mine", KEY)

    assert caught.value.reason == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize(("asked", "given"), [(0, 100), (1, 1), (1_000, 1_000), (10**9, 1_000)])
def test_the_size_of_a_page_is_bounded(asked: int, given: int) -> None:
    assert page_size(asked) == given


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(InvalidArgument) as caught:
        page_size(-1)

    assert caught.value.violations[0].field == "page_size"
