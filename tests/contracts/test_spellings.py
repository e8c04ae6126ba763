"""What Routing hears of an agent does not depend on how its connection spells it."""

from __future__ import annotations

from podium.v1 import session_pb2
from tests.contracts.session_script import scripted
from tests.support.waiting import eventually


async def told_by(make: str) -> list[str]:
    """Returns all that a router hears of one make of agent, but for renewals and chance."""
    async with scripted(make) as script:
        for text in ("say one", "report", "fail", "large"):
            script.assign(text)
            await script.settled()
        canceled = await script.taken("wait")
        script.say(cancel=session_pb2.Cancel(lease=canceled, reason="CANCELED"))
        await script.settled()
        script.assign("say so", "text.other")
        script.say(probe=session_pb2.Probe(nonce=2**62 + 1))
        await script.until("probe_reply")
        script.router.acking = False
        kept = script.assign("say it")
        await eventually(lambda: kept in [result.lease for result in script.heard("result")])
        script.router.acking = True
        await script.reconnected()
        await script.settled()
        heard = [frame for frame in script.router.frames() if not frame.HasField("renew")]
    for frame in heard:
        if frame.HasField("hello"):
            frame.hello.instance_id = "of this start"
    return [str(frame) for frame in heard]


async def test_the_router_hears_the_same_whatever_the_spelling() -> None:
    assert await told_by("web-binary") == await told_by("web")
