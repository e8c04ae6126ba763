from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from services.edge.adapters.pages import static_dir
from tests.support.processes import ROOT

WEB = ROOT / "clients" / "web"


def npm(*arguments: str, folder: Path) -> None:
    ran = subprocess.run(
        arguments,
        cwd=folder,
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def web() -> Path:
    if shutil.which("npm") is None:
        pytest.skip("There is no npm: the committed assets cannot be built again here.")
    if not (WEB / "node_modules" / ".package-lock.json").exists():
        npm("npm", "ci", "--no-audit", "--no-fund", folder=WEB)
    return WEB


@pytest.mark.timeout(180)
def test_the_committed_dashboard_is_what_its_source_builds_to(web: Path, tmp_path: Path) -> None:
    built = tmp_path / "static"

    npm("npx", "vite", "build", "--outDir", str(built), folder=web)

    def content(folder: Path) -> dict[str, bytes]:
        files = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    fresh, committed = content(built), content(static_dir)
    assert sorted(fresh) == sorted(committed)
    assert [name for name in fresh if fresh[name] != committed[name]] == []


@pytest.mark.timeout(180)
def test_the_source_agrees_with_the_types_of_the_contract(web: Path) -> None:
    npm("npm", "run", "check", folder=web)
