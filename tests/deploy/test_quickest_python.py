"""`make` takes another Python than the first on PATH where that is clearly quicker and able."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

FIRST = "echo 0.0020 3 11 7"


@pytest.fixture
def choice() -> Any:
    spec = spec_from_file_location("quickest_python", ROOT / ".ci/quickest_python.py")
    assert spec and spec.loader
    module: Any = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("first", "other", "taken"),
    [
        pytest.param(FIRST, "echo 0.0013 3 11 2", "python3.11", id="clearly quicker"),
        pytest.param(FIRST, "echo 0.0018 3 13 1", "python3", id="hardly quicker"),
        pytest.param(FIRST, "echo 0.0013 3 10 9", "python3", id="too old"),
        pytest.param(FIRST, "exit 1", "python3", id="cannot make environments"),
        pytest.param("exit 1", "echo 0.0030 3 11 2", "python3.11", id="the first cannot"),
    ],
)
def test_the_first_gives_way_to_one_that_is_clearly_quicker_and_can_serve(
    choice: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: str,
    other: str,
    taken: str,
) -> None:
    for name, told in {"python3": first, "python3.11": other}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{told}\n", "utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(choice, "NAMES", ("python3", "python3.11", "python3.12"))

    assert choice.quickest() == str(tmp_path / taken)


def test_a_python_that_cannot_make_environments_is_none(
    choice: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 0 < choice.seconds(sys.executable) < 30

    (tmp_path / "ensurepip.py").write_text("raise ImportError('not installed')\n", "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert choice.seconds(sys.executable) == float("inf")
