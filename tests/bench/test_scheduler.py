"""The bench of the scheduler measures what it says it does, at a small size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.task_scheduler.core.limits import Limits
from tests.bench import backlog, fairness, scheduler
from tests.bench.rows import Row


@pytest.mark.parametrize(
    ("row", "met", "goal"),
    [
        (Row("rate", 2_000.0), None, ""),
        (Row("ratio", 0.8, least=0.8), True, ">= 0.8"),
        (Row("ratio", 0.79, least=0.8), False, ">= 0.8"),
        (Row("size", 1.5, most=1.5), True, "<= 1.5"),
        (Row("size", 1_600.0, most=1_500), False, "<= 1,500"),
    ],
)
def test_a_figure_knows_whether_its_goal_is_met(row: Row, met: bool | None, goal: str) -> None:
    assert (row.met, row.goal) == (met, goal)


def test_agent_seconds_are_shared_and_the_lowest_class_waits_no_longer_than_told() -> None:
    rows = [*fairness.shares(180.0), *fairness.lowest(180.0)]

    assert [row.what for row in rows if row.met is False] == []


@pytest.mark.parametrize("other", fairness.OTHERS, ids=[each.label for each in fairness.OTHERS])
def test_agent_seconds_are_shared_beside_a_tenant(other: fairness.Other) -> None:
    lengths_s = {"short": 1.0, "middle": 3.0, "long": 10.0}

    used_s = fairness.compete(Limits(), 150.0, other, slots=40, mean_s=lengths_s, alike=True)

    assert fairness.jain(list(used_s.values())) >= 0.98


def test_a_queue_grants_from_its_backlog_and_is_filled_again() -> None:
    queue = backlog.Queue(300)

    queue.grant(100)
    queue.fill(100)

    assert len(queue.core.book.queue) == 300
    assert queue.core.dispatch.grants == 100


def test_missed_goals_are_told_by_the_exit_code_and_figures_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {"one": ("A part", lambda scale: [Row("share", scale, least=0.5)])}
    monkeypatch.setattr(scheduler, "PARTS", parts)

    assert scheduler.main(["--scale", "0.5", "--json", str(tmp_path / "kept.json")]) == 0
    assert scheduler.main(["one", "--scale", "0.4"]) == 1
    assert "missed" in capsys.readouterr().out
    assert json.loads((tmp_path / "kept.json").read_text())["one"][0]["value"] == 0.5
    with pytest.raises(SystemExit):
        scheduler.main(["two"])
