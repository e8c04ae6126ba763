from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import grpc

from services.kernel.clock import ManualClock
from services.kernel.config import Common
from services.kernel.dialing import TokenFile, dialer
from services.kernel.inprocess import InProcessHub
from services.kernel.options import dial
from services.kernel.rpc import Guard
from tests.kernel.toy import Stub, Toy, text


async def test_every_kind_of_call_carries_the_token(tmp_path: Path, toy: Toy) -> None:
    shown: list[list[Any]] = []

    def admit(method: str, context: Any) -> None:
        shown.append([v for k, v in context.invocation_metadata() if k == "authorization"])

    hub = InProcessHub()
    hub.add(toy.register, Guard(admit))
    (tmp_path / "token").write_text("a.b.c\n")
    settings = dataclasses.replace(Common(), auth_token_file=str(tmp_path / "token"))
    async with dialer(settings, ManualClock(), hub.dial)("toy:1") as channel:
        await channel.channel_ready()
        stub = Stub(channel)
        await stub.unary(text("x"), metadata=(("mine", "too"),))
        assert [each.value async for each in stub.down(text("1"))] == ["1"]
        await stub.up(iter([text("x")]))
        call = stub.both()
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert channel.get_state() is grpc.ChannelConnectivity.READY

    assert shown == [["Bearer a.b.c"]] * 4
    assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


async def test_a_renewed_token_is_shown_within_a_second(tmp_path: Path) -> None:
    file, clock = tmp_path / "token", ManualClock()
    file.write_text("old")
    token = TokenFile(file, clock)
    assert token.read() == "old"
    file.write_text("new")
    assert token.read() == "old"
    await clock.advance(1)
    assert token.read() == "new"
    os.unlink(file)
    await clock.advance(1)

    assert token.read() == "new"


def test_without_a_token_channels_are_as_they_are() -> None:
    assert dialer(Common(), ManualClock()) is dial
