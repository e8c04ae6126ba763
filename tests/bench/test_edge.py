"""The bench of the edge measures what it says it does, at a small size."""

from __future__ import annotations

from tests.bench import bridges


def test_visitors_are_answered_by_the_bridge_and_by_the_bare_echo() -> None:
    with bridges.bridge() as podium, bridges.echo() as bare:
        for server in (podium, bare):
            found = server.visit("pace", count=5, rate=100, seconds=0.5)

            assert found["answered"] == found["asked"] == 50


def test_a_reader_that_stands_still_is_fed_and_the_others_are_answered() -> None:
    with bridges.feeder() as scheduler, bridges.bridge(scheduler) as podium:
        found = podium.visit("stalled", count=5, rate=100, seconds=0.5)

    assert found["answered"] == found["asked"] == 50
