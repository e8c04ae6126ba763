from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from examples.review import written
from examples.review.checks.review import Finding, Review
from examples.review.figures import Latency
from examples.review.fleet import profiles
from examples.review.found import Found
from examples.review.report import Ground, Learned, Report, Retried, agent_lines, report_of
from examples.review.screen import Board, line, picture
from examples.review.sections import sections_of
from examples.review.tally import Outcome, Tally
from examples.review.trace import TraceLine

HOSTILE = "evil[red]|`*<b>.py"


def found() -> Found:
    told = Found()
    findings = [
        Finding(HOSTILE, 7, "too-complex", "f has complexity 20", "warning", 20),
        Finding("b.py", 3, "syntax-error", "what is this", "error"),
    ]
    facts = {
        "lines": 90,
        "functions": 4,
        "classes": 1,
        "documented": 3,
        "documentable": 4,
        "complexity_max": 20,
        "complexity_sum": 30,
    }
    told.add("python.review", "b.py", Review.of(findings, **facts))
    told.add("python.review", "c.py", Review.of([], **facts))
    text = {"language": "English", "keywords": ["lease"], "lines": 3, "words": 9}
    told.add("text.analyze", "a.txt", Review.of([], **text))
    column = {"name": "price", "type": "number", "missing": 1, "distinct": 4}
    column |= {"min": 1.0, "max": 4.0, "mean": 2.5}
    told.add("table.profile", "t.csv", Review.of([], rows=5, columns=[column]))
    digest = [[1, 1], [2, 9], [3, 20]]
    told.add("duplicates.digest", "d", Review.of([], digests={"a.py": digest, "b.py": digest}))
    return told


def report(**changes: object) -> Report:
    outcome = Outcome(
        submitted=5,
        ends={"completed": 5},
        attempts=6,
        retried=1,
        failures={"FLAKY": 1},
        waited=Latency(6, 0.1, 0.2, 0.3, 0.4),
        ran=Latency(5, 0.01, 0.02, 0.03, 0.04),
        total=Latency(5, 0.5, 0.6, 0.7, 0.8),
        policies={"formula": 4, "learned": 2},
    )
    ground = Ground(["podium"], 4, 12_000, {"binary": 2})
    lines = agent_lines(profiles(4), Tally(), {"wobbly": "open"})
    quiet = Latency(3, 0.002, 0.003, 0.004, 0.005)
    made = report_of(ground, outcome, quiet, [], found(), lines, 2.5)
    made.breaker_openings = {"wobbly": 2}
    made.learned = [Learned("ada", "python.review", 0.97, 0.02)]
    made.model_version = "7"
    trace = [TraceLine("submit", "client", 0, 0.5, "━" * 24, "", False)]
    made.retried = Retried("t-1", "a.py", ["wobbly failed it (FLAKY)", "ada completed it"], trace)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def printed(made: Report, width: int = 140) -> str:
    console = Console(file=io.StringIO(), width=width)
    written.show(made, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_what_was_found_is_added_up_by_kind_and_gravity() -> None:
    told = found()

    assert told.by_severity() == {"error": 1, "warning": 1, "note": 0}
    assert told.total == 2
    assert told.reviews["python.review"] == 2
    assert told.sums["python.review"]["lines"] == 180
    assert [f.rule for f in told.top("python.review", 5)] == ["syntax-error", "too-complex"]
    assert [(c.path, c.other_path, c.lines) for c in told.copies()] == [("a.py", "b.py", 25)]


def test_counts_stay_complete_where_findings_are_cut_off() -> None:
    told = Found()
    many = [Finding("a.py", n, "eval", "x", "note") for n in range(500)]
    told.add("python.review", "a.py", Review.of(many))

    assert told.by_severity()["note"] == 500


def test_the_top_shows_the_heaviest_and_few_of_each_rule() -> None:
    told = Found()
    findings = [Finding("a.py", n, "too-complex", "x", "warning", n) for n in range(1, 10)]
    findings.append(Finding("a.py", 99, "bare-except", "y"))
    told.add("python.review", "a.py", Review.of(findings))

    assert [(f.rule, f.weight) for f in told.top("python.review", 9)] == [
        ("too-complex", 9),
        ("too-complex", 8),
        ("too-complex", 7),
        ("bare-except", 0),
    ]


def test_the_report_says_everything_that_matters() -> None:
    text = printed(report())

    for wanted in (
        "4 files (12.0 kB) of podium, reviewed in 2.5 s as 5 tasks.",
        "1 error, 1 warning, 0 notes",
        "75 % of what is public is documented",
        "English 1",
        "about lease",
        "2 binary",
        f"{HOSTILE}:7",
        "b.py:3",
        "1 to 4, mean 2.5",
        "5 submitted = 5 completed",
        "6 attempts; 1 task took more than one",
        "first 3 one by one",
        "FLAKY 1",
        "took out of work: wobbly (2 times)",
        "formula 4, learned 2",
        "ada 97 % in 20 ms",
        "wobbly failed it (FLAKY); ada completed it",
        "submit",
    ):
        assert wanted in text, wanted
    assert "DOES NOT ADD UP" not in text


def test_a_narrow_terminal_loses_no_place_of_a_finding() -> None:
    assert "b.py:3" in printed(report(), width=60)


def test_what_does_not_add_up_is_said_and_no_success() -> None:
    made = report(faults=["1 of 5 tasks never ended."])

    assert not made.reconciles
    assert "DOES NOT ADD UP: 1 of 5 tasks never ended." in printed(made)


def test_an_empty_job_has_a_report_too() -> None:
    nothing = Outcome(0, {}, 0, 0, {}, Latency(), Latency(), Latency(), {})
    made = report_of(Ground(["x"], 0, 0, {}), nothing, Latency(), [], Found(), [], 0.0)

    assert "0 submitted = none ended" in printed(made)


def test_the_report_is_written_for_programs_and_for_people(tmp_path: Path) -> None:
    for_programs, for_people = written.write(report(), tmp_path / "new")

    value = json.loads(for_programs.read_text("utf-8"))
    assert value["reconciles"] is True
    assert value["outcome"]["submitted"] == 5
    assert value["agents"][0]["agent_id"]
    markdown = for_people.read_text("utf-8")
    assert markdown.startswith("# Podium review\n")
    assert "evil\\[red\\]\\|\\`\\*\\<b\\>.py:7" in markdown


def test_every_row_has_a_cell_for_each_column() -> None:
    for section in sections_of(report()):
        assert {len(row) for row in section.rows} <= {len(section.header)}, section.title


def test_the_board_shows_agents_and_their_breakers_at_any_width() -> None:
    board = Board(profiles(4), Tally(), total=10, submitted=10)
    board.note_breakers({"wobbly": "open"})
    board.note_breakers({"wobbly": "half-open"})
    board.note_breakers({"wobbly": "open"})

    for width in (60, 140):
        console = Console(file=io.StringIO(), width=width)
        console.print(picture(board, 1.0, width))
        assert isinstance(console.file, io.StringIO)
        text = console.file.getvalue()
        assert "wobbly" in text and "open" in text
    assert board.openings == {"wobbly": 2}
    assert "0 of 10 tasks" in line(board, 1.0)
    assert "breaker open: wobbly" in line(board, 1.0)
