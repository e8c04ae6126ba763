"""The code on the pages runs: each page is a module, its functions `test_...` are tests."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *sorted((ROOT / "docs" / "guide").glob("*.md")),
    ROOT / "docs" / "llm.md",
    ROOT / "docs" / "protocol.md",
    ROOT / "docs" / "agents.md",
]
# Pages that walk through a program, which other tests run: their blocks are its own lines.
EXCERPTS = {
    "stubs-agent": ("py", ROOT / "examples" / "stubs_agent" / "agent.py"),
    "browser-agent": ("js", ROOT / "clients" / "web" / "public" / "examples" / "agent.js"),
}
TELLING = {"README", "protocol", "agents", *EXCERPTS}
"""Pages without code of their own to be run here."""
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TEST = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def code(page: Path) -> str:
    """Returns the code of a page, at the lines where it stands there."""
    text = page.read_text("utf-8")
    lines = [""] * (text.count("\n") + 1)
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(1))
        body = block[1].splitlines()
        lines[first : first + len(body)] = body
    return "\n".join(lines) + "\n"


def shown_tests() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for name in TEST.findall(code(page)):
            yield page, name


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], ModuleType]]:
    """Imports the code of a page, once, from a file where other processes find it too."""
    folder = tmp_path_factory.mktemp("pages")
    sys.path.insert(0, str(folder))
    modules: dict[Path, ModuleType] = {}

    def load(page: Path) -> ModuleType:
        if page not in modules:
            name = "page_" + page.stem.replace("-", "_")
            (folder / f"{name}.py").write_text(code(page), "utf-8")
            modules[page] = importlib.import_module(name)
        return modules[page]

    yield load
    sys.path.remove(str(folder))
    for module in modules.values():
        del sys.modules[module.__name__]


@pytest.mark.parametrize(
    ("page", "name"), [pytest.param(p, n, id=f"{p.stem}-{n}") for p, n in shown_tests()]
)
async def test_what_a_page_shows_happens(
    load: Callable[[Path], ModuleType], page: Path, name: str
) -> None:
    shown: Callable[[], Any] = getattr(load(page), name)

    outcome = shown()
    if inspect.isawaitable(outcome):
        await outcome


@pytest.mark.parametrize("page", [p for p in PAGES if p.stem not in TELLING], ids=lambda p: p.stem)
def test_every_page_has_code_that_is_run(page: Path) -> None:
    assert len(TEST.findall(code(page))) >= 2


@pytest.mark.parametrize("name", EXCERPTS)
def test_what_a_page_excerpts_stands_in_the_program(name: str) -> None:
    language, program = EXCERPTS[name]
    text = (ROOT / "docs" / "guide" / f"{name}.md").read_text("utf-8")
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    source = program.read_text("utf-8")

    # The browser's page has a second handler, for what the example does not need.
    strange = [block for block in blocks if block not in source]
    assert strange == [block for block in blocks if "FinalFailure" in block]
    assert len(blocks) - len(strange) >= 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    dead = [to for to in LINK.findall(page.read_text("utf-8")) if not (page.parent / to).exists()]

    assert dead == []


def test_the_guide_names_all_its_pages() -> None:
    text = (ROOT / "docs" / "guide" / "README.md").read_text("utf-8")
    pages = {page.name for page in (ROOT / "docs" / "guide").glob("*.md")} - {"README.md"}

    assert {to for to in LINK.findall(text) if "/" not in to} == pages
