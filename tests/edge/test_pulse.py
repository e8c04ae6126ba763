from __future__ import annotations

from services.edge.core.pulse import Pulse


def test_who_is_heard_is_alive_and_is_not_asked() -> None:
    pulse = Pulse(quiet_s=30, answer_s=15)

    for now_s in range(0, 300, 20):
        pulse.heard = True
        assert pulse.look(now_s) == "alive"


def test_who_is_quiet_is_asked_once_and_lives_when_it_answers() -> None:
    pulse = Pulse(quiet_s=30, answer_s=15)
    pulse.look(0)

    assert pulse.look(29) == "alive"
    assert pulse.look(30) == "ask"
    assert pulse.look(44) == "alive"
    pulse.heard = True
    assert pulse.look(46) == "alive"
    assert pulse.look(75) == "alive"
    assert pulse.look(76) == "ask"


def test_who_does_not_answer_is_dead() -> None:
    pulse = Pulse(quiet_s=30, answer_s=15)
    pulse.look(0)
    pulse.look(30)

    assert pulse.look(44.9) == "alive"
    assert pulse.look(45) == "dead"
