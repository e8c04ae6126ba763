"""What the first pages show a newcomer, typed in and run against a real suite."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from services.suite import Suite, started
from tests.support.ports import ports_of
from tests.support.processes import ROOT, Processes

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SERVICES = ("task_scheduler", "agent_registry", "routing")

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def suite(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Suite]:
    folder = tmp_path_factory.mktemp("suite")
    async with started(
        data_dir=folder,
        ports=ports_of(SERVICES),
        services=SERVICES,
        environ={"PODIUM_OTLP_ENDPOINT": "off"},
    ) as running:
        yield running


def shown(page: str) -> list[str]:
    """Returns the Python of a page, a text for each block."""
    return BLOCK.findall((ROOT / page).read_text("utf-8"))


async def test_the_agent_and_the_client_of_the_readme_meet(
    suite: Suite, processes: Processes, tmp_path: Path
) -> None:
    agent_code, client_code = shown("README.md")
    (tmp_path / "agent.py").write_text(agent_code)
    (tmp_path / "client.py").write_text(client_code)

    agent = processes.python(str(tmp_path / "agent.py"), environ=suite.environ)
    client = processes.python(str(tmp_path / "client.py"), environ=suite.environ)

    assert await asyncio.to_thread(client.wait) == 0, client.output()
    assert client.output() == "HELLO\n"
    assert await asyncio.to_thread(agent.stop) == 0, agent.output()


@pytest.mark.parametrize("page", ["docs/agents.md", "docs/guide/first-agent.md"])
async def test_the_first_agent_answers_the_command_line(
    suite: Suite, processes: Processes, tmp_path: Path, page: str
) -> None:
    first, *_ = shown(page)
    (tmp_path / "hello.py").write_text(first)

    agent = processes.python(str(tmp_path / "hello.py"), environ=suite.environ)
    await asyncio.to_thread(agent.wait_for, "1 agents at work")
    asked = ("submit", "text.count", "three words here", "--wait")
    command = processes.python("-m", "podium.cli", *asked, environ=suite.environ)

    assert await asyncio.to_thread(command.wait) == 0, command.output()
    assert '"words": 3' in command.output()
    assert await asyncio.to_thread(agent.stop) == 0, agent.output()


async def test_the_agent_of_the_stubs_answers_the_command_line_and_leaves_at_ctrl_c(
    suite: Suite, processes: Processes
) -> None:
    agent = processes.python("examples/stubs_agent/agent.py", environ=suite.environ)
    asked = ("submit", "text.count", "three words here", "--wait")
    command = processes.python("-m", "podium.cli", *asked, environ=suite.environ)

    assert await asyncio.to_thread(command.wait) == 0, command.output()
    assert command.output().splitlines()[-1] == "3"
    agent.signal(signal.SIGINT)
    assert await asyncio.to_thread(agent.wait) == 0, agent.output()


async def test_an_agent_that_finds_no_suite_says_so(processes: Processes, tmp_path: Path) -> None:
    first, *_ = shown("docs/agents.md")
    (tmp_path / "hello.py").write_text(first)
    nowhere = {"PODIUM_ROUTING_ADDRESS": "127.0.0.1:1"}

    agent = processes.python(str(tmp_path / "hello.py"), environ=nowhere)
    await asyncio.to_thread(agent.wait_for, "no session with 127.0.0.1:1 yet")
    agent.signal(signal.SIGINT)

    assert await asyncio.to_thread(agent.wait) == 0, agent.output()
