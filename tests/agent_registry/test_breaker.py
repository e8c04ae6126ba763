from __future__ import annotations

import pytest

from services.agent_registry.core.breaker import Breaker, State, cool_s_first, window_s


def fed(pattern: str, at_s: float = 0.0) -> Breaker:
    """A breaker after outcomes: F failed, S succeeded."""
    breaker = Breaker()
    for number, outcome in enumerate(pattern):
        count = breaker.failed if outcome == "F" else breaker.succeeded
        count(f"t{number}", at_s)
    return breaker


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ("FFFFF", State.CLOSED),
        ("FFFFFF", State.OPEN),
        ("SSSSSSFFFFFF", State.CLOSED),
        ("SSSSSSFFFFFFF", State.OPEN),
        ("S" * 30 + "F" * 10, State.CLOSED),
        ("S" * 30 + "F" * 11, State.OPEN),
    ],
)
def test_it_opens_when_more_than_five_and_more_than_half_of_the_recent_failed(
    outcomes: str, state: State
) -> None:
    assert fed(outcomes).state is state


def test_old_failures_do_not_count() -> None:
    breaker = fed("FFFFF")

    breaker.failed("late", window_s + 1)

    assert breaker.state is State.CLOSED
    assert breaker.failure_rate(window_s + 1) == 1.0


def test_one_success_closes_it_when_it_is_half_open() -> None:
    breaker = fed("FFFFFF")
    assert not breaker.tick(cool_s_first - 0.1)
    assert breaker.tick(cool_s_first)
    assert breaker.state is State.HALF_OPEN

    assert breaker.succeeded("probe", cool_s_first + 1)

    assert breaker.state is State.CLOSED
    assert breaker.failure_rate(cool_s_first + 1) == 0.0


def test_each_failed_probe_doubles_the_wait() -> None:
    breaker = fed("FFFFFF")
    now_s, wait_s = 0.0, cool_s_first
    for _ in range(3):
        assert not breaker.tick(now_s + wait_s - 0.1)
        now_s += wait_s
        assert breaker.tick(now_s)
        assert breaker.failed("probe", now_s)
        assert breaker.state is State.OPEN
        wait_s *= 2


def test_the_first_wait_is_as_it_was_set_and_again_after_a_success() -> None:
    breaker = Breaker(2.0)
    for now_s in (0.0, 100.0):
        for number in range(6):
            breaker.failed(f"t{number}", now_s)
        assert not breaker.tick(now_s + 1.9)
        assert breaker.tick(now_s + 2.0)
        breaker.failed("probe", now_s + 2.0)
        assert not breaker.tick(now_s + 5.9)
        assert breaker.tick(now_s + 6.0)
        breaker.succeeded("probe", now_s + 6.0)


def test_failures_that_are_taken_back_close_it_again() -> None:
    breaker = fed("FFFFFF")

    assert breaker.retract("t3", 1.0)
    assert breaker.state is State.CLOSED
    assert not breaker.retract("t3", 1.0)
