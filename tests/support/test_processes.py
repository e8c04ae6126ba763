from __future__ import annotations

import signal

import pytest

from tests.support.processes import Processes
from tests.support.waiting import eventually

PATIENT = "import time; print('ready', flush=True); time.sleep(600)"


def test_a_process_is_ready_when_its_log_says_so_and_ends_on_sigterm(processes: Processes) -> None:
    process = processes.python("-c", PATIENT)

    process.wait_for(r"^ready$")

    assert process.stop() == -signal.SIGTERM


def test_a_process_that_ends_early_is_told_with_all_it_said(processes: Processes) -> None:
    process = processes.python("-c", "import sys; print('no such port'); sys.exit(2)")

    with pytest.raises(AssertionError, match=r"ended with 2 (.|\n)*no such port"):
        process.wait_for("ready")


def test_outside_settings_do_not_reach_a_process(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PODIUM_HOST", "outside")

    process = processes.python(
        "-c",
        "import os; print({k: v for k, v in os.environ.items() if k.startswith('PODIUM_')})",
        environ={"PODIUM_PROFILE": "production"},
    )

    process.wait_for(r"^\{'PODIUM_PROFILE': 'production'\}$")


async def test_the_children_of_a_killed_process_die_with_it(processes: Processes) -> None:
    process = processes.python(
        "-c",
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {PATIENT!r}])\n"
        "print('child', child.pid, flush=True)\n"
        "child.wait()",
    )
    child = int(process.wait_for(r"child (\d+)")[1])

    process.kill()

    def gone() -> bool:
        try:
            with open(f"/proc/{child}/stat") as stat:
                return stat.read().rsplit(")", 1)[1].split()[0] == "Z"  # dead, not yet collected
        except (FileNotFoundError, ProcessLookupError):
            return True

    assert await eventually(gone)


async def test_eventually_gives_the_first_true_answer_and_tells_the_last_false_one() -> None:
    answers = iter([0, 0, 7])

    assert await eventually(lambda: next(answers)) == 7
    with pytest.raises(AssertionError, match="last answer: 0 queue of 3"):
        await eventually(lambda: 0, within_s=0.02, told=lambda: "queue of 3")
