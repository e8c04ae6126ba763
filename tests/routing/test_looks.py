from __future__ import annotations

import math

from services.routing.core.looks import Looks
from tests.routing.floor import Floor


def test_an_agent_is_looked_after_when_its_time_has_come_and_once() -> None:
    floor = Floor()
    first, second = floor.agent("a1"), floor.agent("a2")
    looks = Looks()
    first.look_s = second.look_s = math.inf
    looks.at(20.0, first)
    looks.at(10.0, second)

    assert list(looks.due(9.9)) == []
    assert list(looks.due(15.0)) == [second]
    assert list(looks.due(20.0)) == [first]
    assert list(looks.due(99.0)) == []


def test_a_look_may_come_nearer_and_never_goes_further() -> None:
    session = Floor().agent("a1")
    looks = Looks()
    session.look_s = math.inf
    looks.at(10.0, session)
    looks.at(30.0, session)
    looks.at(5.0, session)

    assert list(looks.due(5.0)) == [session]
    assert list(looks.due(30.0)) == [], "the one at 10 was made needless"
    assert len(looks) == 0


def test_idle_agents_are_looked_after_a_few_times_between_two_proofs() -> None:
    floor = Floor(probe_s=30.0, heartbeat_s=15.0)
    for number in range(50):
        floor.agent(f"a{number}")
    looked = []
    look = floor.router.liveness._look
    floor.router.liveness._look = lambda s, now: looked.append(s) or look(s, now)  # type: ignore[method-assign,func-returns-value]  # counts

    for _ in range(30):
        floor.sleep(1.0)
        for session in floor.board.sessions.values():
            floor.attendance.speaker(1, session.agent_id, floor.time)

    assert len(looked) <= 50 * 3


def test_looks_of_agents_that_are_gone_are_forgotten() -> None:
    floor = Floor(detach_grace_s=1.0, probe_s=5.0, heartbeat_s=5.0)
    for number in range(20):
        floor.agent(f"a{number}")
    floor.attendance.close_stream(1, floor.time)

    floor.sleep(20.0)

    assert len(floor.board.looks) == 0
