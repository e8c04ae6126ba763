"""When every agent says what it owes a router: at its intervals, at once, or by lot."""

from __future__ import annotations

import asyncio
import time

import pytest
from google.protobuf.duration_pb2 import Duration

from podium.v1 import session_pb2
from tests.contracts.session_script import BRIDGED, Script
from tests.support.waiting import eventually

LATE_S = 5.0
"""How long something that is due every 0.1 s may take to have come three times."""
DRAWN_S, FAR_S, DRAWS_MAX = 0.05, 0.2, 40
"""How far waits are to differ whose bound is 0.1 s; a larger one; how many are looked at."""
CLOSING = session_pb2.Refusal(reason="PROBE_UNANSWERED", message="no answer", closing=True)


async def test_leases_are_renewed_from_an_interval_after_ready_on(script: Script) -> None:
    lease = await script.taken("wait")

    # An interval is 0.1 s here. Who answers so many probes first is not slow but late.
    for nonce in range(1, 50):
        await script.answered(nonce)
        if any(lease in renew.leases for renew in script.heard("renew")):
            return
    raise AssertionError("no renewal in 50 intervals")


async def test_an_idle_agent_is_heard_of(script: Script) -> None:
    # A renewal that names nothing is as good a sign of life.
    def signs() -> int:
        return len(script.heard("heartbeat")) + len(script.heard("renew"))

    before = signs()
    await eventually(lambda: signs() >= before + 3)


async def test_intervals_are_kept_as_the_router_tunes_them(script: Script) -> None:
    await script.taken("wait")
    await script.until("renew")
    hour = Duration(seconds=3600)
    script.say(tune=session_pb2.Tune(renew_interval=hour, heartbeat_interval=hour))
    await script.settled()
    renewals, beats = len(script.heard("renew")), len(script.heard("heartbeat"))
    await asyncio.sleep(0.6)

    # One that was being waited for may come yet.
    assert len(script.heard("renew")) <= renewals + 1
    assert len(script.heard("heartbeat")) <= beats + 1


@pytest.mark.parametrize("interval", ["renew_interval", "heartbeat_interval"])
async def test_a_shorter_interval_is_kept_at_once(script: Script, interval: str) -> None:
    hour = Duration(seconds=3600)
    script.say(tune=session_pb2.Tune(renew_interval=hour, heartbeat_interval=hour))
    idle = interval == "heartbeat_interval"
    lease = None if idle else await script.taken("wait")
    await asyncio.sleep(0.3)  # what was begun before is over: it waits for the long one
    script.say(tune=session_pb2.Tune(**{interval: Duration(nanos=100_000_000)}))
    since = len(script.router.frames())

    # One of the interval before may have been on its way.
    def signs() -> int:
        frames = script.router.frames()[since:]
        if idle:
            return sum(frame.WhichOneof("frame") in ("heartbeat", "renew") for frame in frames)
        return sum(lease in frame.renew.leases for frame in frames)

    await eventually(lambda: signs() >= 3, within_s=LATE_S)


async def test_an_agent_that_is_asked_to_stay_away_comes_back_after_that_time(
    script: Script,
) -> None:
    lease = await script.taken("wait")
    refusal = session_pb2.Refusal(reason="HELLO_RATE", message="too many", closing=True)
    refusal.retry_after.FromMilliseconds(700)
    asked_s = time.monotonic()
    script.say(refusal=refusal)

    hello = (await script.until("hello", 2))[1]
    assert time.monotonic() - asked_s >= 0.7
    assert list(hello.in_flight) == [lease]


@pytest.mark.parametrize("how", ["closed", "lost"])
async def test_waits_before_another_hello_grow(script: Script, how: str) -> None:
    script.router.welcoming = False
    waits_s = [0.0]
    # Drawn below a bound that doubles, one is long soon; a fleet that waits no longer is a herd.
    while max(waits_s) < 0.3:
        assert len(waits_s) < 30, f"{waits_s}"
        asked_s = time.monotonic()
        if how == "lost":
            await script.reconnected()
        else:
            script.say(refusal=CLOSING)
            await script.until("hello", len(waits_s) + 1)
        waits_s.append(time.monotonic() - asked_s)


async def test_waits_before_another_hello_are_drawn(script: Script) -> None:
    waits_s: list[float] = []
    while not drawn(waits_s):
        assert len(waits_s) < DRAWS_MAX, f"{waits_s}"
        await script.settled()
        count, lost_s = len(script.heard("hello")), time.monotonic()
        if script.make in BRIDGED:  # where the bridge would come back before them
            script.say(refusal=CLOSING)
        else:
            script.router.end()
        await script.until("hello", count + 1)
        waits_s.append(time.monotonic() - lost_s)
        await eventually(lambda: script.router.streams[-1].agents)


def drawn(waits_s: list[float]) -> bool:
    """Returns whether waits were drawn, whether they begin anew with each Ready or go on growing.

    Those that are not are all alike, or none is shorter than one before. A machine that is late
    makes one longer now and then, and none shorter: so several have to be longer than a later one.
    """

    def longer(by_s: float) -> int:
        pairs = ((wait_s, waits_s[at + 1 :]) for at, wait_s in enumerate(waits_s))
        return sum(wait_s - min(later, default=wait_s) >= by_s for wait_s, later in pairs)

    return longer(DRAWN_S) >= 3 or longer(FAR_S) >= 2


@pytest.mark.parametrize(
    ("waits_s", "are_drawn"),
    [
        ([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.01, 5.0], False),
        ([0.11, 0.12, 0.1, 0.11, 0.1, 0.13, 0.1], False),
        ([0.1, 0.3, 0.1, 0.16, 0.1, 0.11, 0.1], False),
        ([0.05, 0.09, 0.02, 0.08, 0.07, 0.01], True),
        ([0.08, 0.1, 0.3, 0.2, 0.9, 0.04], True),
        ([1.9, 0.7, 1.1, 0.3], True),
    ],
)
def test_waits_that_are_drawn_are_told_from_others(waits_s: list[float], are_drawn: bool) -> None:
    assert drawn(waits_s) is are_drawn
