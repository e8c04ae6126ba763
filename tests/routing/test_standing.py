"""What the registry says of agents, and what holds before it has said anything."""

from __future__ import annotations

import pytest

from services.routing.core.effects import Opened
from services.routing.core.session import Session
from services.routing.core.standing import remembered_len_max
from tests.routing.floor import Floor


class Ward(Floor):
    """A floor whose router has a registry, which answers as told."""

    def __init__(self, *, answers: bool = True) -> None:
        super().__init__()
        self.standings.seek(self.time)
        if answers:
            self.answer()

    def answer(self, ask: int | None = None) -> None:
        """Lets the registry answer all that it was asked, or what it was until `ask`."""
        self.standings.answered(self.standings.asks if ask is None else ask, self.time)
        self.turn()

    def say(self, agent_id: str, **said: object) -> None:
        given = {"breaker": "CLOSED", "draining": False, "quarantined": False, **said}
        self.standings.directive(agent_id, **given)  # type: ignore[arg-type]  # as each test says
        self.turn()

    def leave(self, agent_id: str) -> None:
        self.attendance.goodbye(self.board.sessions[agent_id], self.time)
        self.turn()

    def works(self, session: Session) -> bool:
        return session.counted_free > 0


KEPT_BACK = [
    {"quarantined": True, "reason": "odd answers"},
    {"breaker": "OPEN"},
    {"draining": True, "instance_id": "i1"},
]


@pytest.mark.parametrize("said", KEPT_BACK)
def test_an_agent_that_comes_gets_nothing_before_the_registry_has_said_what_holds(
    said: dict[str, object],
) -> None:
    ward = Ward()
    agent = ward.agent("a1")
    lease = ward.granted("t1")

    assert lease.session is None, "it is asked about"
    ward.say("a1", **said)
    ward.answer()

    assert lease.session is None and not ward.works(agent)


def test_it_begins_with_the_answer() -> None:
    ward = Ward()
    first, second = ward.agent("a1"), ward.agent("a2")
    asks = [opened.ask for opened in ward.of(Opened)]
    assert asks == sorted(set(asks)) and 1 not in asks, "1 is that of a snapshot before them"

    ward.answer(asks[0])
    assert (ward.works(first), ward.works(second)) == (True, False)

    ward.answer(asks[1])
    assert ward.works(second)


def test_an_answer_to_what_was_asked_before_an_agent_was_away_does_not_count() -> None:
    ward = Ward()
    ward.agent("a1")
    asked = ward.standings.asks
    ward.attendance.close_stream(1, ward.time)
    ward.attendance.open_stream(1)
    again = ward.agent("a1")

    ward.answer(asked)
    assert not ward.works(again)

    ward.answer()
    assert ward.works(again)


def test_an_agent_whose_session_goes_on_waits_for_nothing() -> None:
    ward = Ward()
    ward.agent("a1")
    ward.answer()
    ward.attendance.open_stream(2)

    again = ward.agent("a1", stream=2)
    newer = ward.agent("a1", stream=2, instance="i2")

    assert again.stream is None and ward.works(newer), "the registry told all until now"


def test_a_registry_that_does_not_answer_is_waited_for_once() -> None:
    ward = Ward()
    first = ward.agent("a1")
    ward.sleep(0.2)
    assert not ward.works(first)

    ward.sleep(0.2)
    assert ward.works(first)
    assert ward.works(ward.agent("a2")), "it was waited for in vain"

    ward.answer()
    assert not ward.works(ward.agent("a3")), "it answers again"


def test_a_router_that_has_just_begun_waits_for_longer_and_but_once() -> None:
    ward = Ward(answers=False)
    agent = ward.agent("a1")
    ward.sleep(1.5)
    assert not ward.works(agent), "the registry may be on its way as well"

    ward.sleep(0.7)
    assert ward.works(agent)
    assert ward.works(ward.agent("a2"))


@pytest.mark.parametrize("said", KEPT_BACK)
def test_while_the_registry_is_away_what_it_said_last_holds_for_whoever_starts_anew(
    said: dict[str, object],
) -> None:
    ward = Ward()
    ward.agent("a1")
    ward.answer()
    ward.say("a1", **said)
    ward.leave("a1")
    ward.standings.lost()

    assert ward.works(ward.agent("a2")), "nobody waits"
    again = ward.agent("a1")

    assert not ward.works(again)
    assert again.told_reason == said.get("reason", ""), "and the registry is told so later"


def test_a_drain_holds_for_one_process() -> None:
    ward = Ward()
    ward.agent("a1")
    ward.say("a1", draining=True, instance_id="i1")
    ward.leave("a1")
    ward.standings.lost()

    assert ward.works(ward.agent("a1", instance="i2"))


def test_what_was_taken_back_is_not_remembered() -> None:
    ward = Ward()
    ward.agent("a1")
    ward.say("a1", quarantined=True)
    ward.say("a1")
    ward.leave("a1")
    ward.standings.lost()

    assert ward.works(ward.agent("a1"))


def test_who_starts_anew_is_released_while_the_registry_answers() -> None:
    ward = Ward()
    ward.agent("a1")
    ward.say("a1", quarantined=True)
    ward.leave("a1")

    again = ward.agent("a1")
    ward.answer()

    assert ward.works(again), "it was released meanwhile, of which no router was told"


def test_those_remembered_are_bounded_and_the_oldest_are_forgotten() -> None:
    ward = Ward()
    for number in range(remembered_len_max + 1):
        ward.standings.directive(f"a{number}", breaker="OPEN", draining=False, quarantined=False)
    ward.standings.lost()

    assert ward.works(ward.agent("a0"))
    assert not ward.works(ward.agent("a1"))
