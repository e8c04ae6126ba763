from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.kernel import durable


def test_a_file_is_made_with_its_directory_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "of" / "a service"

    durable.replace(path, b"old")
    durable.replace(path, b"new")

    assert path.read_bytes() == b"new"
    assert [each.name for each in path.parent.iterdir()] == ["a service"]


def test_a_file_stays_what_it_was_when_the_new_one_cannot_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kept"
    durable.replace(path, b"old")

    def full(_: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        durable.replace(path, b"new")

    assert path.read_bytes() == b"old"
