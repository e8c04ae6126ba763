"""The rules of the house that linters cannot see: rooms, sizes, users, what is never tracked."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from functools import cache
from itertools import chain
from pathlib import Path

import grimp
import pytest

from tests.support.settings import SERVICES

ROOT = Path(__file__).resolve().parents[1]

ROOMS = frozenset(
    {"__init__", "__main__", "adapters", "config", "core", "loops", "ports", "servicer"}
)
# Not services: nothing dials them.
NEIGHBOURS = frozenset({"kernel", "simulator"})

# What a core may import beside itself: data and mathematics, nothing that waits, reads or draws.
CORE_MAY_IMPORT = frozenset(
    "__future__ abc array base64 binascii bisect collections copy dataclasses datetime decimal "
    "enum fractions functools hashlib heapq itertools json math numpy operator re statistics "
    "string struct textwrap types typing unicodedata urllib.parse zlib zoneinfo "
    "services.kernel.errors services.kernel.instant services.kernel.versions".split()
)

LINES_MAX = 400


@cache
def tracked(pattern: str = "") -> tuple[Path, ...]:
    """Returns the files of the repository, new ones included, ignored ones not."""
    listed = subprocess.run(
        [
            "git",
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "-z",
            "--",
            pattern or ".",
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    paths = (ROOT / name for name in listed.split("\0") if name)
    return tuple(sorted(path for path in paths if path.is_file()))


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("services", cache_dir=None)


def modules_below(folder: Path) -> list[Path]:
    return [path for path in tracked("services/*.py") if folder in path.parents]


def test_every_folder_of_services_is_known() -> None:
    folders = {path.relative_to(ROOT).parts[1] for path in tracked("services/*/*")}

    assert folders - NEIGHBOURS == set(SERVICES)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_all_rooms_and_no_other(service: str) -> None:
    folder = ROOT / "services" / service

    rooms = {path.relative_to(folder).parts[0] for path in modules_below(folder)}

    assert {room.removesuffix(".py") for room in rooms} == ROOMS


@pytest.mark.parametrize("service", SERVICES)
def test_a_core_imports_data_and_itself_alone(service: str) -> None:
    own = f"services.{service}.core"

    strangers = {
        f"{relative(path)} imports {name}"
        for path in modules_below(ROOT / "services" / service / "core")
        for name in imported(path)
        if not (
            name.startswith(own)
            or any(name == m or name.startswith(f"{m}.") for m in CORE_MAY_IMPORT)
        )
    }

    assert strangers == set()


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{relative(path)}: relative imports are not used here"
            if node.module in ("services", "services.kernel"):
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
            else:
                names.add(node.module)
    return names


@pytest.mark.parametrize("service", SERVICES)
def test_each_core_module_has_its_own_tests(service: str) -> None:
    core = ROOT / "services" / service / "core"
    modules = {path.stem for path in modules_below(core)} - {"__init__"}

    tested = {path.stem.removeprefix("test_") for path in tracked(f"tests/{service}/*.py")}

    assert modules - tested == set()


def test_each_kernel_module_serves_two_services() -> None:
    graph = imports()
    kernel = {m for m in graph.modules if m.startswith("services.kernel.")}
    lonely = {
        module.removeprefix("services.kernel.")
        for module in kernel
        if not graph.find_children(module) and len(users(graph, module)) < 2
    }

    assert lonely == set()


def users(graph: grimp.ImportGraph, module: str) -> set[str]:
    """Names the services, and `__main__` for their composition, that reach a kernel module."""
    reached = graph.find_downstream_modules(module)
    parts = {name.split(".")[1] for name in reached if name.startswith("services.")}
    return parts & {*SERVICES, "__main__"}


def test_the_kernel_has_no_business_words() -> None:
    # Wire names of peers are settings; what a task or an agent is, the kernel must not know.
    imported_names = {
        f"{relative(path)} imports {name}"
        for path in modules_below(ROOT / "services" / "kernel")
        for name in imported(path)
        if name.startswith("podium")
    }

    assert imported_names == set()


def test_no_module_is_longer_than_the_limit() -> None:
    lengths = {relative(path): path.read_text("utf-8").count("\n") for path in tracked("*.py")}

    assert {name: lines for name, lines in lengths.items() if lines > LINES_MAX} == {}


def test_no_name_says_nothing() -> None:
    empty_words = {"base", "common", "helper", "helpers", "manager", "misc", "util", "utils"}

    names = {
        relative(path)
        for path in chain(tracked("*.py"), tracked("*.ts"), tracked("*.tsx"), tracked("*.proto"))
        if path.stem in empty_words or path.parent.name in empty_words
    }

    assert names == set()


def test_suppressions_have_their_reason_on_the_line() -> None:
    bare = re.compile(r"#\s*(noqa|type:\s*ignore)(:\s*[A-Z0-9, ]+|\[[a-z0-9, -]+\])?\s*$")

    lines = {
        f"{relative(path)}:{number}"
        for path in tracked("*.py")
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if bare.search(line)
    }

    assert lines == set()


def test_nothing_generated_is_tracked() -> None:
    generated = [p for p in tracked() if "podium/v1" in relative(p) and p.suffix in (".py", ".pyi")]

    assert generated == []
    assert tracked("uv.lock") == ()


def test_locked_versions_name_no_host() -> None:
    assert "://" not in (ROOT / "constraints.txt").read_text("utf-8")
    for lock in tracked("*package-lock.json"):
        assert '"resolved"' not in lock.read_text("utf-8"), relative(lock)
    for settings in tracked("*.npmrc"):
        assert "registry=" not in settings.read_text("utf-8"), relative(settings)


def test_every_dependency_is_bounded_below_and_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    locked = {
        line.split("==")[0] for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    }

    for requirement in wanted:
        if requirement.startswith("podium["):
            continue
        bounded = re.fullmatch(r"([a-z0-9-]+)(\[[a-z,]+\])?(>=|==)[0-9.]+", requirement)
        assert bounded, requirement
        assert bounded[1] in locked, requirement


def test_the_contracts_of_the_import_linter_name_every_service() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    side_by_side = contracts["contracts"][0]["layers"][0]

    assert set(re.findall(r"services\.(\w+)", side_by_side)) == set(SERVICES)
