"""A real Chromium before a real suite: every service its own process, agents too."""

from __future__ import annotations

import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from services.suite import SERVICES, prepared
from tests.support.ports import ports_of
from tests.support.processes import ROOT, Process, Processes

ARTIFACTS = ROOT / "artifacts" / "browser"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# The machine is shared with whatever else runs: waiting longer costs nothing when all is well.
expect.set_options(timeout=15_000)


@dataclass
class Suite:
    """The services, and the agents that tests start."""

    processes: Processes
    environ: dict[str, str]
    port: int
    services: dict[str, Process] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    def start(self, name: str) -> None:
        self.services[name] = self.processes.python("-m", f"services.{name}", environ=self.environ)

    def ready(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as response:
                    if response.status == 200:
                        return
            except (urllib.error.URLError, OSError) as error:
                if isinstance(error, urllib.error.HTTPError):
                    error.close()
                if time.monotonic() > deadline:
                    raise AssertionError(self.services["edge"].output()) from None
            time.sleep(0.05)

    def agent(self, agent_id: str, *kinds: str) -> Process:
        """Starts an agent that can do some of the kinds of `tests.browser.worker`."""
        started = self.processes.python(
            "-m", "tests.browser.worker", agent_id, *kinds, environ=self.environ
        )
        started.wait_for("^working$")
        return started


@pytest.fixture(scope="package")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    folder = tmp_path_factory.mktemp("suite")
    plan = prepared(data_dir=folder / "data", ports=ports_of(SERVICES))
    environ = {
        **plan.environ,
        "PODIUM_LOG_LEVEL": "info",
        # A tab that is put to sleep is noticed within the patience of a test, and an edge that
        # starts again is back before its agents are taken for lost.
        "PODIUM_LEASE_TTL_S": "8",
        "PODIUM_DETACH_GRACE_S": "5",
    }
    with Processes(folder / "logs") as processes:
        running = Suite(processes, environ, plan.ports["edge"])
        for name in SERVICES:
            running.start(name)
        running.ready()
        for process in running.services.values():
            process.wait_for("listening on")
        yield running


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("There is no Chromium: install the package chromium.")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser, suite: Suite, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page of a fresh profile; what it looked like at the end is kept as an artifact."""
    context = browser.new_context(viewport={"width": 1360, "height": 900}, base_url=suite.url)
    opened = context.new_page()
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    yield opened
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    name = Path(request.node.name).name.replace("[", "-").replace("]", "")
    opened.screenshot(path=ARTIFACTS / f"{name}.png", full_page=True)
    context.close()
    assert faults == []
