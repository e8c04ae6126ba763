"""The page about tasks, run against a real scheduler with the page's own agent."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from types import ModuleType

import pytest
import pytest_asyncio

from podium.sdk.client import Client
from podium.sdk.host import AgentHost
from podium.sdk.settings import Settings
from services import suite
from tests.docs.test_pages import LINK, ROOT, TEST, code
from tests.support.ports import ports_of

PAGE = ROOT / "docs" / "tasks.md"
SERVICES = ("task_scheduler", "agent_registry", "routing")
SETTING = re.compile(r"PODIUM_[A-Z_]+[A-Z]")
OPTION = re.compile(r"`--([a-z-]+)`")

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.system]


def option(name: str) -> str:
    """Returns how an option is written where it is defined."""
    return f"    {name.replace('-', '_')}: Annotated"


@pytest.fixture(scope="module")
def page() -> ModuleType:
    module = ModuleType("page_tasks")
    exec(compile(code(PAGE), str(PAGE), "exec"), vars(module))
    return module


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def podium(
    page: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Client]:
    environ = {"PODIUM_LOG_LEVEL": "warning", "PODIUM_OTLP_ENDPOINT": "off"}
    folder = tmp_path_factory.mktemp("suite")
    async with suite.started(
        data_dir=folder, ports=ports_of(SERVICES), services=SERVICES, environ=environ
    ) as running:
        settings = Settings.from_environment(running.environ)
        async with (
            AgentHost([page.agent], settings=settings, inline=True),
            Client(settings, inline=True) as client,
        ):
            yield client


@pytest.mark.parametrize("name", TEST.findall(code(PAGE)))
async def test_what_the_page_shows_happens(page: ModuleType, podium: Client, name: str) -> None:
    await getattr(page, name)(podium)


async def test_the_page_names_only_settings_commands_and_files_that_exist(
    page: ModuleType,
) -> None:
    text = PAGE.read_text("utf-8")
    sources = (ROOT / "services" / "task_scheduler" / "config.py").read_text("utf-8")
    commands = "".join(
        path.read_text("utf-8") for path in (ROOT / "clients/python/podium/cli").glob("*.py")
    )

    assert [name for name in SETTING.findall(text) if f'"{name}"' not in sources] == []
    assert [name for name in OPTION.findall(text) if option(name) not in commands] == []
    assert [to for to in LINK.findall(text) if not (PAGE.parent / to).exists()] == []
