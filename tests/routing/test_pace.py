from __future__ import annotations

import pytest

from services.routing.adapters.frames import Frames
from services.routing.core import effects
from services.routing.core.pace import differs, heartbeat_s
from services.routing.core.session import Limits
from tests.routing.floor import Floor


@pytest.mark.parametrize(
    ("agents", "set_s", "probe_s", "expected_s"),
    [
        (1, 15.0, 30.0, 15.0),
        (1_500, 15.0, 30.0, 15.0),
        (3_000, 15.0, 30.0, 30.0),
        (5_000, 30.0, 30.0, 45.0),  # answers to proofs are the signs of life from here on
        (10_000, 15.0, 30.0, 45.0),
        (10_000, 30.0, 1.0, 30.0),  # never less than what was set
    ],
)
def test_many_agents_are_asked_for_fewer_heartbeats(
    agents: int, set_s: float, probe_s: float, expected_s: float
) -> None:
    assert heartbeat_s(agents, set_s, probe_s) == pytest.approx(expected_s)


def test_a_small_change_is_not_worth_a_word() -> None:
    assert not differs(30.0, 35.0)
    assert differs(30.0, 45.0) and differs(45.0, 30.0)


def test_agents_are_told_with_the_next_proof_and_doubted_by_what_they_were_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    floor = Floor(heartbeat_s=1.0, probe_s=2.0)
    monkeypatch.setattr("services.routing.core.pace.heartbeats_per_s", 1.0)
    session = floor.agent("a1")
    floor.agent("a2")
    floor.agent("a3")
    assert (session.heartbeat_s, floor.last(effects.SendReady).session.heartbeat_s) == (1.0, 3.0)

    floor.sleep(2.5)
    told = next(e for e in floor.of(effects.SendPace) if e.session is session)
    at = floor.done.index(told)

    assert told.heartbeat_s == 3.0
    assert isinstance(floor.done[at - 1], effects.SendProbe), "in one message with it"
    frames = Frames("router-1", Limits()).response([told]).frames
    assert frames[0].agent_id == "a1"
    assert frames[0].tune.heartbeat_interval.ToMilliseconds() == 3_000
    assert not frames[0].tune.HasField("renew_interval")


def test_ready_tells_the_interval_of_that_moment() -> None:
    floor = Floor(heartbeat_s=12.0)
    floor.agent("a1")

    [frame] = Frames("router-1", Limits()).response([floor.last(effects.SendReady)]).frames

    assert frame.ready.heartbeat_interval.ToMilliseconds() == 12_000
