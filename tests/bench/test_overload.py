"""What is told of an overload: shares, refusals, and when it is over."""

from __future__ import annotations

import math

from tests.bench import overload
from tests.bench.client import Samples


def samples(ended_s: list[float], took_ms: float, refused_ms: list[float]) -> Samples:
    took = [took_ms] * len(ended_s)
    offered = len(ended_s) + len(refused_ms)
    hints = [0.05] * len(refused_ms)
    return Samples(ended_s, took, took, ended_s, refused_ms, [], hints, offered)


def test_what_ends_while_the_backlog_fills_or_when_the_flood_is_over_does_not_count() -> None:
    rest = samples([0.5, 1.0, 2.0, 4.9, 5.0, 6.0], 10.0, [1.0, 3.0])
    urgent = samples([1.5], 4.0, [])

    figures = overload.summary(1.0, 5.0, urgent, rest, Samples())

    assert figures["completed_per_s"] == 1  # four in four seconds
    assert figures["refused"] == 2 and figures["urgent_refused"] == 0
    assert (figures["urgent_assignment_p99_ms"], figures["other_assignment_p50_ms"]) == (4.0, 10.0)


def test_it_is_over_with_the_last_task_that_was_slow() -> None:
    after = samples([0.1, 0.4, 0.9], 10.0, [])
    after.end_to_end_ms = [80.0, 51.0, 49.0]

    assert overload.summary(1.0, 5.0, Samples(), Samples(), after)["back_to_normal_s"] == 0.4


def test_refusals_without_a_hint_are_counted_and_are_missed_goals() -> None:
    rest = samples([2.0], 10.0, [1.0, 2.0])
    rest.hints_s = [0.05, math.nan]

    figures = overload.summary(1.0, 5.0, Samples(), rest, Samples())

    assert figures["refused_without_hint"] == 1
    [row] = [row for row in overload.goals(figures) if "without a hint" in row.what]
    assert row.met is False


def test_what_the_client_refuses_by_itself_is_told_apart_from_the_scheduler_s_refusals() -> None:
    rest = samples([2.0], 10.0, [4.0])
    rest.held_back_ms = [0.1, 6.0]

    rows = overload.goals(overload.summary(1.0, 5.0, Samples(), rest, Samples()))

    met = {row.what: row.met for row in rows if "refusal by" in row.what and row.most}
    assert met == {
        "overload: due to refusal by the scheduler, p99": True,
        "overload: due to refusal by the client, which knows, p99": False,
    }
