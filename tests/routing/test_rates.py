from __future__ import annotations

from typing import cast

import pytest

from services.kernel.errors import ResourceExhausted
from services.routing.core.session import Session, Stream
from services.routing.servicer.rates import Rates, frames_burst, frames_per_s_max, throttled_max

OTHERS = [f"a{number}" for number in range(1, 10)]


def of(*agent_ids: str) -> Stream:
    stream = Stream(1)
    stream.agents = dict.fromkeys(agent_ids, cast("Session", None))
    return stream


def flood(rates: Rates, there: Stream, *, seconds: int, each: int = 1_000) -> list[float]:
    """Has `a1` say so much each second, and the others nothing; returns when it was refused."""
    refused = []
    for now_s in range(seconds):
        wait_s, faults = rates.take({"a1": each}, there, float(now_s))
        assert wait_s == 0.0
        refused += [float(now_s) for agent_id in faults if agent_id == "a1"]
    return refused


def test_the_flood_of_one_agent_is_its_own_fault_and_slows_nobody_else() -> None:
    rates = Rates()

    refused = flood(rates, of("a1", "a2"), seconds=100)

    # Sixteen within a minute end its session.
    assert len([at for at in refused if at < 60.0]) >= 16
    beats = dict.fromkeys(["a2"], 1)
    assert rates.take(beats, of("a1", "a2"), 100.0) == (0.0, [])


def test_a_flood_is_told_once_a_second_however_many_messages_it_has() -> None:
    rates = Rates()
    rates.take({"a1": 1_000}, of(*OTHERS), 0.0)

    told = [rates.take({"a1": 1}, of(*OTHERS), 0.1 + number / 100)[1] for number in range(150)]

    assert [len(faults) for faults in told].count(1) == 2


def test_a_steady_rate_within_the_bound_is_never_refused() -> None:
    rates = Rates()
    count = int(frames_per_s_max)

    for now_s in range(100):
        assert rates.take(dict.fromkeys(OTHERS, count), of(*OTHERS), float(now_s)) == (0.0, [])


def test_an_agent_that_has_the_stream_to_itself_is_slowed_and_then_loses_it() -> None:
    rates = Rates()
    now_s, waits = 0.0, []

    with pytest.raises(ResourceExhausted) as raised:
        for _ in range(1_000):
            wait_s, faults = rates.take({"a1": 100}, of("a1"), now_s)
            assert not faults
            waits.append(wait_s)
            now_s += wait_s

    assert (raised.value.reason, raised.value.retry_after_s) == ("FRAME_RATE", 5.0)
    assert len([wait_s for wait_s in waits if wait_s]) == throttled_max


def test_frames_of_agents_without_a_session_count_for_the_stream() -> None:
    rates = Rates()
    rates.take({"gone": 2 * int(frames_burst)}, of("a1", "a2"), 0.0)

    wait_s, faults = rates.take({"gone": 100}, of("a1", "a2"), 0.0)

    assert wait_s > 0 and not faults


def test_an_agent_whose_session_has_ended_costs_the_others_no_more_than_before() -> None:
    rates, stream = Rates(), of("a2")
    stream.greet("a1")

    assert flood(rates, stream, seconds=100) == []


def test_an_agent_that_waits_to_be_let_in_slows_nobody_else() -> None:
    rates, stream = Rates(), of()
    stream.waiting = {"a1", "a2"}

    assert len(flood(rates, stream, seconds=100)) > 16


def test_all_agents_together_may_say_no_more_than_each_may() -> None:
    rates = Rates()
    there = OTHERS[:2]
    # Each for itself has its burst, so has the stream.
    assert rates.take(dict.fromkeys(there, 200), of(*there), 0.0) == (0.0, [])
    wait_s, faults = rates.take(dict.fromkeys(there, 200), of(*there), 0.0)

    assert sorted(faults) == there
    assert wait_s == 0.0


def test_agents_that_wait_to_be_let_in_may_say_hello_one_by_one() -> None:
    rates = Rates()
    stream = of()

    for number in range(1_000):
        stream.waiting.add(f"a{number}")
        assert rates.take({f"a{number}": 1}, stream, 0.0) == (0.0, [])


def test_hellos_for_those_that_left_count_for_the_stream_whatever_ids_they_name() -> None:
    rates, fresh = Rates(), dict.fromkeys(OTHERS, 1)

    assert rates.take(fresh, of(), 0.0) == (0.0, []), "they are many, and nobody has left"
    wait_s, _ = rates.take(fresh, of(), 0.0, replacing=1_000)
    assert wait_s > 0
    assert Rates().take(fresh, of(*map(str, range(1_000))), 0.0, replacing=1_000) == (0.0, [])
