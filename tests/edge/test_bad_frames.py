"""Frames that are wrong, each with its one answer, by the rows of docs/bridge.md."""

from __future__ import annotations

import json

import pytest

from tests.edge.conftest import Edge
from tests.edge.raw import BINARY, CLOSE, PING, TEXT, masked, raw_socket

ASKED = b'{"ref":"1","ping":{}}'


def closing(code: int, reason: bytes = b"") -> bytes:
    return masked(CLOSE, code.to_bytes(2, "big") + reason)


BROKEN = {
    "w9 unmasked": b"\x81\x02{}",
    "w9 a reserved bit": masked(TEXT | 0x40, ASKED),
    "w9 opcode 3": masked(0x83, ASKED),
    "w9 opcode 11": masked(0x8B),
    "w9 a ping of 126 bytes": masked(PING, b"x" * 126, bytes([126, 0, 126])),
    "w9 a ping in fragments": masked(0x09, b"x"),
    "w9 a continuation of nothing": masked(0x80, ASKED),
    "w9 a message within a message": masked(0x01, b"{") + masked(TEXT, ASKED),
    "w13 code 999": closing(999),
    "w13 code 1005": closing(1005),
    "w13 code 2999": closing(2999),
    "w13 half a code": masked(CLOSE, b"\x03"),
}
NO_TEXT = {
    "w10 a byte that is none": masked(TEXT, b'{"ref":"\xff"}'),
    "w10 half a surrogate pair": masked(TEXT, b'{"ref":"\xed\xa0\x80"}'),
    "w10 a reason for closing": closing(1000, b"\xff"),
}
TOO_LARGE = {
    "w11 announced": masked(TEXT, b"", bytes([127]) + (1 << 20).to_bytes(8, "big")),
    "w11 announced 2^62": masked(TEXT, b"", bytes([127]) + (1 << 62).to_bytes(8, "big")),
    "w11 announced 2^63": masked(TEXT, b"", bytes([127]) + (1 << 63).to_bytes(8, "big")),
    "w11 in fragments": masked(0x01) + masked(0x00, b"x" * 60_000, b"\x7e\xea\x60") * 10,
    "w12 200,000 empty fragments": masked(0x01) + masked(0x00) * 200_000,
    "w12 60,000 fragments of a byte": masked(0x01) + masked(0x00, b"x") * 60_000,
}
ANSWERS = {
    **dict.fromkeys(BROKEN.values(), 1002),
    **dict.fromkeys(NO_TEXT.values(), 1007),
    **dict.fromkeys(TOO_LARGE.values(), 1009),
    masked(BINARY, ASKED): 1003,
    closing(4000): 4000,
    closing(1000): 1000,
}
NAMES = {sent: name for table in (BROKEN, NO_TEXT, TOO_LARGE) for name, sent in table.items()}


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(sent, code, id=NAMES.get(sent, f"{'w15' if code == 1003 else 'w13'} {code}"))
        for sent, code in ANSWERS.items()
    ],
)
async def test_a_frame_that_breaks_the_protocol_closes_with_its_code_and_harms_no_other(
    edge: Edge, sent: bytes, code: int
) -> None:
    other = await edge.connect()

    async with raw_socket(edge) as socket:
        socket.writer.write(sent)
        assert (await socket.closed()).code == code

    assert (await other.ask({"ref": "1", "ping": {}}))["ref"] == "1"


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(masked(TEXT, ASKED, bytes([126, 0, len(ASKED)])), id="w16 in 16 bits"),
        pytest.param(masked(TEXT, ASKED, bytes([127, *bytes(7), len(ASKED)])), id="w16 in 64 bits"),
    ],
)
async def test_a_length_that_is_spelled_too_long_is_understood(edge: Edge, sent: bytes) -> None:
    async with raw_socket(edge) as socket:
        await socket.hear()
        socket.writer.write(sent)

        assert json.loads((await socket.hear()).payload) == {"ref": "1", "pong": {}}
