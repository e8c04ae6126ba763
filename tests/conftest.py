"""What holds for every test: no settings leak in, the quick run first, garbage waits its turn."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.garbage import Looks
from tests.support.postgres import Postgres, postgres
from tests.support.processes import Processes
from tests.support.redis import shared
from tests.support.workers import Lanes, sendable

# Folders whose tests carry a marker of the same name, in the order in which they run, last.
SLOW_FOLDERS = ("system", "browser")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Looks())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        folder = item.path.relative_to(here).parts[0]
        return SLOW_FOLDERS.index(folder) + 1 if folder in SLOW_FOLDERS else 0

    for item in items:
        if rank(item):
            item.add_marker(SLOW_FOLDERS[rank(item) - 1])
    items.sort(key=rank)  # stable: inside a folder the order stays


@pytest.hookimpl(optionalhook=True)  # there is none without workers
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Lanes:
    return Lanes(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Iterator[Any]:
    return sendable((yield))


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    # PODIUM_TEST_* names servers that the tests may use instead of starting their own.
    for name in list(os.environ):
        if name.startswith("PODIUM_") and not name.startswith("PODIUM_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Starts real processes; none of them outlives the test."""
    with Processes(tmp_path / "logs") as started:
        yield started


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A PostgreSQL for all tests that need one."""
    with postgres() as started:
        yield started


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> Iterator[str]:
    """A new database, for one test."""
    with postgres_server.database() as url:
        yield url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis for all tests that need one; each takes a prefix of its own."""
    with shared() as url:
        yield url
