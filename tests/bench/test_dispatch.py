"""Figures of the dispatch workload: medians by turns, goals, and what is written of them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from tests.bench import __main__ as bench
from tests.bench import dispatch, plot, report
from tests.bench.dispatch import Found, Plan, foreign_share
from tests.bench.setups import MULTIPLEXED, OWN_STREAMS, SETUPS
from tests.bench.workload import Latency, Throughput


def throughput(rate: float, *, foreign: float = 0.0) -> Throughput:
    return Throughput(1_000, 1_000 / rate, {"one": 0.2, "two": 0.1}, {"one": 50.0}, foreign)


def latency(*assignment_ms: float) -> Latency:
    taken = list(assignment_ms)
    return Latency(1_000.0, 999.0, [2 * each for each in taken], taken, {"one": 0.5}, 1.0)


def found(*rates: float, skeleton: tuple[float, ...] = ()) -> dict[str, Any]:
    runs = Found([throughput(each) for each in skeleton], [throughput(each) for each in rates])
    runs.latency[1_000.0] = [latency(*range(1, 101))]
    return dispatch.summary(MULTIPLEXED, runs)


def test_medians_are_taken_over_runs_and_the_ratio_over_turns() -> None:
    figures = found(100, 400, 300, skeleton=(1_000, 800, 500))

    assert figures["tasks_per_s"] == 300
    # 0.1, 0.5 and 0.6 by turns; the medians of each would give 0.375.
    assert figures["ratio"] == 0.5
    assert figures["cpu_s_per_1000"] == 0.3
    assert figures["cpu_s_per_1000_by_process"] == {"one": 0.2, "two": 0.1}
    assert (figures["latency"][0]["assignment_p50_ms"], figures["latency"][0]["offered"]) == (
        51.0,
        "1,000/s",
    )


@pytest.mark.parametrize(
    ("rate", "ratio", "met"), [(8_000, 0.5, True), (7_999, 0.5, False), (8_000, 0.49, False)]
)
def test_throughput_and_ratio_have_goals(rate: float, ratio: float, met: bool) -> None:
    rows = dispatch.goals({MULTIPLEXED.name: found(rate, skeleton=(rate / ratio,))}, 0.2)

    held = [row for row in rows if row.least is not None]
    assert all(row.met for row in held) is met


def test_what_tracing_costs_is_a_share_of_the_untraced_throughput() -> None:
    figures = {OWN_STREAMS.name: found(84), "own streams, no tracing": found(100)}

    [row] = [row for row in dispatch.goals(figures, 0.2) if "tracing" in row.what]

    assert (row.value, row.most, row.met) == (0.16, 0.15, False)


async def test_a_run_that_others_disturbed_is_repeated_and_the_least_disturbed_counts() -> None:
    plan = Plan(1_000, 1, (), 1.0, foreign_max=0.1)
    measuring = dispatch.Dispatch(plan, Console(quiet=True), SETUPS[:1])
    runs = iter([throughput(100, foreign=9.0), throughput(200, foreign=4.0), throughput(300)])
    noted = Found()

    async def run() -> Throughput:
        return next(runs)

    best = await measuring._least_disturbed(noted, run)

    assert (best.rate, noted.again, foreign_share(best)) == (300, 2, 0.0)


def figures() -> dict[str, Any]:
    return {
        "machine": {
            "cpu": "2 x <CPU>",
            "system": "s",
            "python": "3",
            "packages": "p",
            "commit": "c",
        },
        "mode": "quick mode",
        "fsync_ms": 0.2,
        "dispatch": {MULTIPLEXED.name: found(300, skeleton=(600,)), "no & skeleton": found(200)},
    }


def test_json_holds_no_number_that_json_does_not_know(tmp_path: Path) -> None:
    written = figures()
    assert math.isnan(written["dispatch"]["no & skeleton"]["ratio"])

    bench.keep(written, tmp_path / "new", Console(quiet=True))

    text = (tmp_path / "new" / "bench.json").read_text()
    kept = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert kept["dispatch"]["no & skeleton"]["ratio"] is None
    assert kept["dispatch"][MULTIPLEXED.name]["ratio"] == 0.5


def test_the_picture_shows_each_figure_as_long_as_it_is() -> None:
    root = ElementTree.fromstring(plot.svg(plot.panels(figures()["dispatch"]), "2 x <CPU>"))

    bars = {
        title.text: float(rect.get("width", "0"))
        for rect in root.iter("{http://www.w3.org/2000/svg}rect")
        for title in rect
    }
    assert bars["skeleton: 600"] == pytest.approx(3 * bars["Podium: 200"], rel=0.01)
    assert "2 x <CPU>" in [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]


def test_tables_leave_out_what_was_not_measured() -> None:
    console = Console(width=200, record=True, quiet=True)
    console.quiet = False
    with console.capture() as printed:
        report.dispatch(figures()["dispatch"], console)

    text = printed.get()
    assert "0.50" in text and "nan" not in text.lower()
