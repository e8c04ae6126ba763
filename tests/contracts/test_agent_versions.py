"""Agents of another start, and routers of another version: what is not new to each other counts."""

from __future__ import annotations

import asyncio

from podium.v1 import session_pb2
from podium.v1.session_pb2 import RouterFrame
from tests.contracts.session_script import Script, scripted
from tests.support.waiting import eventually


async def test_each_start_of_an_agent_is_an_instance_of_its_own(script: Script) -> None:
    async with scripted(script.make) as again:
        first, second = script.heard("hello")[0], again.heard("hello")[0]

    assert first.instance_id != second.instance_id


async def test_a_verdict_of_a_later_version_settles_a_result_like_any_other(
    script: Script,
) -> None:
    script.router.acking = False
    lease = script.assign("say so")
    await script.until("result")
    verdict = 99
    script.say(result_ack=session_pb2.ResultAck(lease=lease, verdict=verdict))  # type: ignore[arg-type]  # unknown here
    await script.answered(1)
    script.router.acking = True

    assert not (await script.reconnected()).in_flight
    await eventually(lambda: script.router.streams[-1].agents)
    await script.settled()


async def test_reasons_and_frames_of_a_later_version_cost_nothing(script: Script) -> None:
    lease = await script.taken("wait")
    script.say(cancel=session_pb2.Cancel(lease=lease, reason="A_LATER_REASON"))
    assert (await script.until("result"))[0].WhichOneof("outcome") == "canceled"
    frame = RouterFrame.FromString(b"\x0a\x05wordy" + b"\xfa\x07\x02\x0a\x00")
    script.router.say(frame)

    await script.settled()
    assert len(script.heard("hello")) == 1


async def test_a_stream_is_left_without_a_goodbye_while_there_are_leases(script: Script) -> None:
    """After one the leases that are left are lost at once."""
    await script.taken("wait")
    script.router.say(RouterFrame(drain=session_pb2.RouterDrain()))
    await asyncio.sleep(0.3)
    script.router.end(0)
    await script.until("hello", 2)
    await eventually(lambda: script.router.streams[-1].agents)
    await script.answered(2)

    assert not script.heard("goodbye")
