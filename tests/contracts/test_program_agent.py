"""A program of any language is judged as our own agents are."""

from __future__ import annotations

import asyncio
import sys

from tests.support.processes import ROOT

SUITE = "tests/contracts/test_agent_session.py"
# It starts the program, talks with it and sees it leave; the other tests differ in the script.
ONE = "an_agent_that_leaves_drains_finishes_and_says_goodbye"


async def judged(command: str) -> tuple[int, str]:
    """Runs a test of the suite on a program, as make does."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", SUITE, "-k", ONE, "-q", "-p", "no:cacheprovider"),
        cwd=ROOT,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'clients' / 'python'}",
            "PODIUM_CONFORMANCE_AGENT": command,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_a_right_program_passes() -> None:
    code, output = await judged(f"{sys.executable} -m tests.contracts.session_agents")

    assert code == 0, output
    assert "1 passed" in output
