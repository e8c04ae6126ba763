from __future__ import annotations

import random
from typing import Any

import pytest
from aiohttp import WSCloseCode

from services.edge.core.pulse import Pulse
from services.edge.servicer.meter import Meter, fragments_len_max
from tests.edge.raw import BINARY, PING, TEXT, masked


class Parser:
    """What the meter stands before."""

    def __init__(self) -> None:
        self.fed = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.fed += data
        return False, b""


def metered() -> tuple[Meter, Parser, list[WSCloseCode]]:
    parser, closed = Parser(), []
    return Meter(parser, Pulse(30, 15), lambda code, _: closed.append(code)), parser, closed


def long(payload: bytes) -> bytes:
    """Returns a frame whose length takes more than seven bits."""
    short = len(payload) < 65_536
    wide, bits = (2, 126) if short else (8, 127)
    return masked(BINARY, payload, bytes([bits]) + len(payload).to_bytes(wide, "big"))


WHOLE = [
    masked(TEXT, b"{}"),
    masked(TEXT),
    masked(PING, b"x"),
    masked(TEXT, b"x" * 125),
    long(b"y" * 126),
    long(b"z" * 70_000),
    masked(0x01, b"a") + masked(0x00, b"b") + masked(PING) + masked(0x80, b"c"),
]


@pytest.mark.parametrize("seed", range(20))
def test_right_frames_pass_however_the_network_cuts_them(seed: int) -> None:
    chance = random.Random(seed)
    meter, parser, closed = metered()
    said = b"".join(chance.choices(WHOLE, k=12))

    at = 0
    while at < len(said):
        size = chance.choice([1, 2, 3, 7, 131, 132, 5_000])
        assert meter.feed_data(said[at : at + size])[0] is False
        at += size

    assert (parser.fed, closed) == (said, [])


@pytest.mark.parametrize("before", [b"", *WHOLE], ids=len)
@pytest.mark.parametrize("cut", [1, 2, 100])
def test_a_frame_without_a_mask_is_found_wherever_it_stands(before: bytes, cut: int) -> None:
    meter, parser, closed = metered()
    wrong = b"\x81\x02{}"

    ended = meter.feed_data(before)[0] if before else False
    for at in range(0, len(wrong), cut):
        ended = ended or meter.feed_data(wrong[at : at + cut])[0]

    assert (ended, closed) == (True, [WSCloseCode.PROTOCOL_ERROR])
    assert len(parser.fed) < len(before) + len(wrong)


def test_so_many_fragments_are_a_message_and_not_one_more() -> None:
    meter, _, closed = metered()
    begun = masked(0x01) + masked(0x00, b"x") * (fragments_len_max - 1)

    for end in (masked(0x80), masked(0x80), masked(TEXT)):
        assert meter.feed_data(begun + masked(PING) * 5 + end)[0] is False
    assert meter.feed_data(begun + masked(0x00))[0] is True

    assert closed == [WSCloseCode.MESSAGE_TOO_BIG]


def test_whatever_comes_is_a_sign_of_life() -> None:
    pulse: Any = Pulse(30, 15)
    pulse.heard = False

    Meter(Parser(), pulse, lambda *_: None).feed_data(b"\x81")

    assert pulse.heard
