from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.support.processes import Processes

pytestmark = [pytest.mark.system, pytest.mark.timeout(150)]

JOB_S = 90.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A little of everything, with a fault in each."""
    made = tmp_path / "thing"
    made.mkdir()
    for number in range(24):
        (made / f"good_{number}.py").write_text(f'"""Module {number}."""\n\nvalue = {number}\n')
    (made / "shared.py").write_text("def f(a=[]):\n    return a\n")
    (made / "broken.py").write_text("def f(:\n")
    (made / "notes.txt").write_bytes(b"The caf\xe9 of the town is not open.\n")
    (made / "table.csv").write_text("a,b\n1,2\n3\n")
    (made / "settings.toml").write_text('password = "hunter2"\n')
    (made / "key.pem").write_text("-----BEGIN " + "PRIVATE KEY-----\n")
    (made / "picture.png").write_bytes(b"\x89PNG\0\0")
    # One of several hundred kilobytes, so that payloads are not small everywhere.
    (made / "large.py").write_text("".join(f"name_{n} = {n}\n" for n in range(30_000)))
    return made


def children_of(pid: int) -> set[int]:
    """Returns all processes below one, by their parents in /proc."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(entry.name)] = int(fields[1])
    below = {pid}
    while more := {child for child, parent in parents.items() if parent in below} - below:
        below |= more
    return below - {pid}


def alive(pids: set[int]) -> set[int]:
    """Returns those that still run; one that is dead and not yet collected does not."""
    running = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            running.add(pid)
    return running


def test_a_folder_is_reviewed_by_real_agents_and_everything_adds_up(
    folder: Path, tmp_path: Path, processes: Processes
) -> None:
    data = tmp_path / "data"

    job = processes.python(
        *("-m", "examples.review", "--dir", str(folder), "--once", "--ports", "free"),
        *("--agents", "5", "--data-dir", str(data)),
    )

    assert job.wait(JOB_S) == 0, job.output()
    report = json.loads((data / "review-report.json").read_text("utf-8"))
    assert report["reconciles"] is True
    assert report["left_out"] == {"binary": 1}
    outcome = report["outcome"]
    # One for each file; programs in three bundles, as the large one has its own, each scanned for
    # secrets and for copies; and one bundle of the other files.
    assert outcome["submitted"] == 31 + 3 * 2 + 1
    assert outcome["ends"] == {"completed": 38}
    assert outcome["retried"] >= 1
    assert outcome["failures"]["FLAKY"] >= 1
    assert report["rules"]["python.review"] == {"mutable-default": 1, "syntax-error": 1}
    assert report["rules"]["text.analyze"] == {"encoding": 1}
    assert report["rules"]["table.profile"] == {"ragged-row": 1}
    assert report["rules"]["config.check"] == {"secret-in-settings": 1}
    assert report["rules"]["secrets.scan"] == {"secret": 1}
    wobbly = next(agent for agent in report["agents"] if agent["agent_id"] == "wobbly")
    assert wobbly["failed"] >= 1

    retried = report["retried"]
    assert "wobbly failed it (FLAKY)" in retried["attempts"]
    names = {line["text"].strip("│├└─ ") for line in retried["trace"]}
    assert {"submit", "queue", "route", "assign", "execute", "complete"} <= names

    said = job.output()
    for wanted in (
        "All accounted for",
        "One task that was retried",
        "Who did what",
        "thing/broken",
    ):
        assert wanted in said
    assert "hunter2" not in said + json.dumps(report)


def test_the_job_stays_up_after_its_report_and_ctrl_c_stops_every_process(
    folder: Path, tmp_path: Path, processes: Processes
) -> None:
    job = processes.python(
        *("-m", "examples.review", "--dir", str(folder), "--ports", "free"),
        *("--agents", "4", "--data-dir", str(tmp_path / "data")),
    )
    job.wait_for("Ctrl-C stops everything", within_s=JOB_S)
    below = children_of(job.pid)
    assert len(below) >= 9  # six services and three processes of agents
    assert alive(below) == below

    job.signal(signal.SIGINT)

    assert job.wait(40.0) == 0, job.output()
    assert alive(below) == set()


def test_ctrl_c_in_the_middle_stops_every_process_too(
    folder: Path, tmp_path: Path, processes: Processes
) -> None:
    job = processes.python(
        *("-m", "examples.review", "--dir", str(folder), "--dir", os.path.dirname(os.__file__)),
        *("--ports", "free", "--data-dir", str(tmp_path / "data")),
    )
    job.wait_for("Reviewing", within_s=JOB_S)
    below = children_of(job.pid)

    job.signal(signal.SIGTERM)

    assert job.wait(40.0) == 130, job.output()
    assert alive(below) == set()
    assert "Traceback" not in job.output()
