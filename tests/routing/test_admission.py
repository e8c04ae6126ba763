from __future__ import annotations

import itertools
from typing import Any

import pytest

from podium.v1 import session_pb2
from services.routing.core import effects
from services.routing.core.session import Greeting
from tests.routing.floor import Floor
from tests.routing.peers import room
from tests.support.waiting import eventually

LEASE = (("t1", 1),)


class Door(Floor):
    """A floor with a narrow door: 10 a second, 2 of them at once, the others wait 1 s at most."""

    def __init__(self, **limits: Any) -> None:
        given = {"hellos_per_s": 10.0, "hellos_burst": 2.0, "hello_wait_s": 1.0, "claim_s": 0.0}
        super().__init__(**{**given, **limits})

    def hello(self, *agent_ids: str, stream: int = 1, in_flight: Any = ()) -> None:
        for agent_id in agent_ids:
            given = (agent_id, "i1", "", {"echo": 1.0}, 1, 0.0, in_flight, "", None)
            self.router.admission.hello(stream, Greeting(*given), self.time)
        self.turn()

    def inside(self) -> list[str]:
        """Agents in the order in which they were let in."""
        return [effect.session.agent_id for effect in self.of(effects.Opened)]

    def sent_away(self) -> dict[str, float]:
        """For how long each that was sent away is to stay away; the last word counts."""
        told = self.of(effects.SendRefusal)
        assert all(each.closing and each.reason == "HELLO_RATE" for each in told)
        return {each.agent_id: each.retry_after_s for each in told}


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def test_a_hello_is_let_in_at_once_when_few_come() -> None:
    floor = Door()

    for number in range(20):
        floor.hello(f"a{number}")
        assert floor.inside()[-1] == f"a{number}"
        floor.sleep(0.1)


def test_many_that_come_at_once_are_let_in_at_the_rate_in_order() -> None:
    floor = Door()
    arrived = names("a", 10)
    floor.hello(*arrived)
    assert floor.inside() == arrived[:2]

    floor.sleep(0.5, step_s=0.01)
    assert len(floor.inside()) in (6, 7)
    floor.sleep(0.5, step_s=0.01)

    assert floor.inside() == arrived
    assert floor.sent_away() == {}


def test_who_brings_leases_comes_before_all_others() -> None:
    floor = Door()
    floor.hello(*names("a", 6))
    floor.hello("with-work", in_flight=LEASE)

    floor.sleep(1.0)

    assert floor.inside() == ["a0", "a1", "with-work", "a2", "a3", "a4", "a5"]


def test_whoever_would_wait_too_long_is_asked_to_come_back_each_at_a_time_of_its_own() -> None:
    floor = Door()
    floor.hello(*names("a", 32))

    away = floor.sent_away()
    assert list(away) == names("a", 32)[12:]
    times = list(away.values())
    gaps = {round(later - earlier, 6) for earlier, later in itertools.pairwise(times)}
    assert gaps == {0.1}
    # Not before those who wait are in.
    assert 1.0 <= times[0] <= 1.2


def test_all_of_a_herd_are_in_when_each_comes_back_as_it_was_asked() -> None:
    floor = Door()
    floor.hello(*names("a", 50))
    due = [(floor.time.mono_s + away_s, each) for each, away_s in floor.sent_away().items()]
    floor.done.clear()

    for at_s, agent_id in due:
        floor.sleep(max(0.0, at_s - floor.time.mono_s), step_s=0.05)
        floor.hello(agent_id)
    floor.sleep(1.0)

    assert floor.sent_away() == {}, "nobody is asked twice"
    assert sorted(floor.board.sessions) == sorted(names("a", 50))
    # No longer than the rate allows, and the room to wait.
    assert floor.time.mono_s - 1_000.0 < 50 / 10 + 2.0


def test_who_brings_leases_takes_the_place_of_the_last_of_the_others() -> None:
    floor = Door()
    floor.hello(*names("a", 12))
    floor.hello("with-work", in_flight=LEASE)

    assert list(floor.sent_away()) == ["a11"]
    floor.sleep(0.2)
    assert "with-work" in floor.inside()


def test_who_brings_leases_is_asked_back_in_time_to_renew_them() -> None:
    floor = Door(lease_s=3.0)
    for number in range(100):
        floor.hello(f"a{number}", in_flight=((f"t{number}", 1),))

    away = floor.sent_away()
    assert len(away) == 88
    assert max(away.values()) == floor.board.lease_s / 3


def test_nobody_is_asked_to_stay_away_for_very_long() -> None:
    floor = Door()
    floor.hello(*names("a", 1_000))

    assert max(floor.sent_away().values()) == 30.0


def test_an_agent_whose_leases_are_here_does_not_wait_since_they_would_be_lost() -> None:
    floor = Door()
    floor.agent("worker")
    lease = floor.running("t9")
    floor.attendance.close_stream(1, floor.time)
    for number in (1, 2):
        floor.attendance.open_stream(number)
    floor.hello(*names("a", 12))

    floor.hello("worker", stream=2, in_flight=(lease.key,))

    assert floor.inside()[-1] == "worker"
    floor.sleep(3.0)
    assert floor.of(effects.Ended) == []


def test_a_second_hello_while_the_first_waits_is_refused() -> None:
    floor = Door()
    floor.hello("a1", "a2", "a3")
    floor.hello("a3")

    refusal = floor.last(effects.SendRefusal)
    assert (refusal.agent_id, refusal.reason, refusal.closing) == ("a3", "HELLO_REPEATED", False)
    floor.sleep(1.0)
    assert floor.inside() == ["a1", "a2", "a3"]


def test_who_leaves_before_it_is_let_in_is_not_let_in() -> None:
    floor = Door()
    floor.hello("a1", "a2", "a3", "a4")
    floor.router.admission.forget(1, "a3")

    floor.sleep(1.0)

    assert floor.inside() == ["a1", "a2", "a4"]


def test_a_stream_that_ends_takes_those_with_it_that_wait_on_it() -> None:
    floor = Door()
    floor.attendance.open_stream(2)
    floor.hello("a1", "a2", "a3")
    floor.hello("b1", stream=2)
    floor.router.admission.close_stream(1)
    floor.attendance.close_stream(1, floor.time)

    floor.sleep(0.5)

    assert floor.inside() == ["a1", "a2", "b1"]
    assert not floor.router.admission


def test_a_router_that_drains_keeps_nobody_waiting() -> None:
    floor = Door()
    floor.hello(*names("a", 10))
    floor.attendance.drain(0, floor.time)
    floor.turn()

    told = [each for each in floor.of(effects.SendRefusal) if each.reason == "DRAINING"]
    assert [each.agent_id for each in told] == names("a", 10)[2:]


@pytest.mark.parametrize("waiting", [False, True])
def test_one_agent_too_many_does_not_end_the_stream_of_the_others(waiting: bool) -> None:
    floor = Door(agents_max=2, hellos_burst=2.0 if waiting else 100.0)
    floor.hello("a1", "a2", "a3")
    floor.sleep(1.0)

    told = floor.last(effects.SendRefusal)
    assert (told.agent_id, told.reason, told.closing) == ("a3", "TOO_MANY_AGENTS", True)
    assert told.retry_after_s == 5.0
    assert sorted(floor.board.sessions) == ["a1", "a2"]


async def test_the_time_to_stay_away_reaches_the_agent_and_its_next_hello_is_heard() -> None:
    async with room(hellos_per_s=1) as here:
        wire = here.wire()
        said = session_pb2.Hello(instance_id="i1", capabilities=[{"name": "echo"}])
        frames = [session_pb2.AgentFrame(agent_id=f"a{n}", hello=said) for n in range(110)]
        await wire.send(*frames)

        def told() -> list[session_pb2.RouterFrame]:
            return [frame for frame in wire.frames if frame.HasField("refusal")]

        # A hundred at once, and three that wait for 3 s at most.
        await eventually(lambda: len(told()) == 7)
        await eventually(lambda: sum(frame.HasField("ready") for frame in wire.frames) >= 100)
        refusal = told()[0].refusal
        assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "HELLO_RATE")
        assert refusal.closing and 3_000 < refusal.retry_after.ToMilliseconds() <= 4_100
        # Too early they are asked again, but for those that have room by now, and the stream lives.
        await wire.send(*frames[-7:])
        await eventually(lambda: len(told()) >= 8)
        assert told()[-1].refusal.retry_after.ToMilliseconds() > 1_000
