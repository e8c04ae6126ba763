"""The image: its base, its user, and that what it copies is let through to the build."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINES = (ROOT / "deploy/Dockerfile").read_text("utf-8").splitlines()


def test_every_stage_starts_from_a_named_version() -> None:
    bases = [line.split()[1] for line in LINES if line.startswith("FROM")]

    assert bases
    assert all(re.search(r":[0-9]", base) for base in bases)


def test_the_container_is_not_root_and_has_one_command_per_service() -> None:
    last_stage = LINES[max(n for n, line in enumerate(LINES) if line.startswith("FROM")) :]

    assert "USER 10001:10001" in last_stage
    assert 'ENTRYPOINT ["python", "-m"]' in last_stage
    assert 'CMD ["services"]' in last_stage


def test_what_is_copied_exists_and_reaches_the_build() -> None:
    let_through = {
        line.removeprefix("!").rstrip("/")
        for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines()
        if line.startswith("!")
    }
    copied = {
        source
        for line in LINES
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    }

    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(kept == source or kept.startswith(f"{source}/") for kept in let_through), source
