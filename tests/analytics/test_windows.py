from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.analytics.core import windows as module
from services.analytics.core.windows import Fact, Kind, Latency, View, Windows, lengths_ms
from tests.support.eventlog import BEGIN_MS


def fact(
    at_s: float,
    kind: Kind = Kind.SUBMITTED,
    *,
    task_type: str = "words",
    agent_id: str = "",
    **latencies_s: float,
) -> Fact:
    timed = tuple((Latency[name.upper()], value) for name, value in latencies_s.items())
    return Fact(kind, BEGIN_MS + round(at_s * 1_000), task_type, agent_id, timed)


def counted(facts: Iterable[Fact]) -> Windows:
    windows = Windows()
    for each in facts:
        windows.count(each)
    return windows


def views(
    windows: Windows, until_s: float, length_ms: int = 10_000, last: int = 1_000
) -> list[View]:
    return windows.series[length_ms].newest(last, BEGIN_MS + round(until_s * 1_000))


def counts(view: View) -> dict[str, int]:
    return {Kind(kind).name: count for kind, count in enumerate(view.total.counts) if count}


def test_events_are_counted_in_the_window_of_their_time() -> None:
    windows = counted([fact(0.0), fact(9.999), fact(10.0), fact(10.1, Kind.COMPLETED)])

    first, second = views(windows, 10.1)
    assert (first.start_ms, second.start_ms) == (BEGIN_MS, BEGIN_MS + 10_000)
    assert counts(first) == {"SUBMITTED": 2}
    assert counts(second) == {"SUBMITTED": 1, "COMPLETED": 1}


def test_each_type_and_agent_has_a_row_of_its_own() -> None:
    windows = counted(
        [
            fact(1.0, task_type="words"),
            fact(2.0, Kind.STARTED, task_type="words", agent_id="a", assignment=0.01),
            fact(3.0, Kind.COMPLETED, task_type="words", agent_id="a", total=2.0, run=1.0),
            fact(4.0, Kind.ATTEMPT_FAILED, task_type="tables", agent_id="b"),
        ]
    )

    (view,) = views(windows, 5.0)
    assert [row.key for row in view.types] == ["words", "tables"]
    assert [row.key for row in view.agents] == ["a", "b"]
    a = view.agents[0]
    assert (a.counts[Kind.STARTED], a.counts[Kind.COMPLETED]) == (1, 1)
    assert a.latencies[Latency.ASSIGNMENT].p50_s == pytest.approx(0.01, rel=0.02)
    assert a.latencies[Latency.RUN].max_s == 1.0
    assert view.total.latencies[Latency.TOTAL].mean_s == 2.0


def test_a_window_closes_when_events_are_two_seconds_past_its_end() -> None:
    windows = counted([fact(1.0), fact(11.9)])
    assert [view.closed for view in views(windows, 11.9)] == [False, False]

    windows.count(fact(12.0))
    assert [view.closed for view in views(windows, 12.0)] == [True, False]


def test_an_event_a_little_out_of_order_is_counted_where_it_belongs() -> None:
    windows = counted([fact(9.0), fact(11.0), fact(9.5)])

    assert [counts(view) for view in views(windows, 11.0)] == [{"SUBMITTED": 2}, {"SUBMITTED": 1}]
    assert windows.late_count == 0


def test_an_event_after_closing_is_late_and_changes_no_count() -> None:
    windows = counted([fact(1.0), fact(20.0), fact(2.0)])

    short = views(windows, 20.0)[0]
    assert (counts(short), short.late_count) == ({"SUBMITTED": 1}, 1)
    (long,) = views(windows, 20.0, 300_000)
    assert (counts(long), long.late_count) == ({"SUBMITTED": 3}, 0)
    assert windows.late_count == 1


def test_a_long_window_tells_at_once_what_the_short_ones_in_it_hold() -> None:
    windows = counted(
        [fact(at_s, Kind.COMPLETED, agent_id="a", total=at_s) for at_s in (1.0, 9.0, 20.0, 21.0)]
    )

    for _ in range(2):  # and asking changes nothing
        (long,) = views(windows, 21.0, 300_000)
        assert [row.counts[Kind.COMPLETED] for row in (long.total, *long.agents)] == [4, 4]
        assert long.total.latencies[Latency.TOTAL].max_s == 21.0
    windows.close_until(BEGIN_MS + 300_000)
    assert views(windows, 21.0, 300_000)[0].total == long.total


def test_the_clock_closes_windows_of_a_quiet_log() -> None:
    windows = counted([fact(1.0)])
    windows.close_until(BEGIN_MS + 10_000)

    assert [view.closed for view in views(windows, 10.0)] == [True, False]
    assert windows.closed_count == 1


def test_quiet_windows_between_are_told_as_empty() -> None:
    told = views(counted([fact(1.0), fact(41.0)]), 41.0)

    assert [counts(view).get("SUBMITTED", 0) for view in told] == [1, 0, 0, 0, 1]
    assert [view.closed for view in told] == [True, True, True, False, False]


def test_a_closed_window_tells_what_it_told_while_it_was_open() -> None:
    facts = [
        fact(1.0 + n / 10, Kind.COMPLETED, agent_id=f"a-{n % 3}", total=n / 7, run=n / 9)
        for n in range(50)
    ]
    windows = counted(facts)
    before = views(windows, 6.0)[0]
    windows.close_until(BEGIN_MS + 10_000)

    assert views(windows, 6.0)[0] == before._replace(closed=True)


def test_an_event_that_comes_again_is_known_by_its_number() -> None:
    windows = Windows()

    assert [windows.advance(seq) for seq in (1, 2, 2, 1, 5)] == [True, True, False, False, True]
    assert [windows.advance(seq, 1) for seq in (4, 4)] == [True, False], "another partition"


@given(st.lists(st.tuples(st.floats(0, 120), st.sampled_from(Kind)), max_size=80))
def test_each_event_is_in_exactly_one_window_of_each_length_or_late(
    events: list[tuple[float, Kind]],
) -> None:
    windows = counted(fact(at_s, kind) for at_s, kind in events)

    for length_ms in lengths_ms:
        told = views(windows, 120.0, length_ms)
        inside = sum(sum(view.total.counts) for view in told)
        late = sum(view.late_count for view in told)
        assert inside + late == len(events)
        assert all(sum(r.counts[0] for r in v.types) == v.total.counts[0] for v in told)


def test_counting_the_log_again_gives_the_same_windows() -> None:
    facts = [fact(n * 1.7 % 60, Kind(n % 7), agent_id=f"a-{n % 5}") for n in range(300)]

    assert views(counted(facts), 60.0) == views(counted(facts), 60.0)


def test_types_and_agents_beyond_the_limit_are_told_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "types_len_max", 2)
    monkeypatch.setattr(module, "agents_len_max", 3)
    windows = counted(fact(1.0, task_type=f"t-{n}", agent_id=f"a-{n}") for n in range(6))

    (view,) = views(windows, 1.0)
    assert {row.key: row.counts[0] for row in view.types} == {"t-0": 1, "other": 5}
    assert {row.key: row.counts[0] for row in view.agents} == {"a-0": 1, "a-1": 1, "other": 4}


def test_no_more_than_a_thousand_windows_are_kept() -> None:
    windows = counted(fact(n * 10.0) for n in range(1_200))

    told = views(windows, 11_990.0)
    assert len(told) == 1_000
    assert told[-1].start_ms == BEGIN_MS + 11_990_000
    assert len(windows.series[10_000]._closed) <= 1_001


def test_the_oldest_windows_lose_their_agents_when_there_are_too_many_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "rows_len_max", 30)
    windows = counted(fact(n * 10.0 + a, agent_id=f"a-{a}") for n in range(6) for a in range(5))

    told = views(windows, 60.0)
    assert [len(view.agents) for view in told] == [0, 5, 5, 5, 5, 5, 0]
    assert all(counts(view) == {"SUBMITTED": 5} for view in told[:6])


def test_nothing_counted_means_no_windows() -> None:
    assert views(Windows(), 100.0) == []


def test_the_last_windows_are_those_asked_for() -> None:
    told = views(counted(fact(n * 10.0) for n in range(9)), 80.0, last=3)

    assert [view.start_ms - BEGIN_MS for view in told] == [60_000, 70_000, 80_000]
