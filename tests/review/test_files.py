from __future__ import annotations

import os
from pathlib import Path

import pytest

from examples.review import files
from examples.review.files import default_folders, is_binary, kind_of, select


def made(folder: Path, name: str, data: bytes = b"text\n") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_files_are_read_in_order_and_shown_below_the_name_of_their_folder(tmp_path: Path) -> None:
    root = tmp_path / "thing"
    made(root, "b.py")
    made(root, "a/c.txt")

    selection = select([root])

    assert [file.shown for file in selection.files] == ["thing/b.py", "thing/a/c.txt"]
    assert selection.total_bytes == 10
    assert not selection.left_out


def test_what_others_wrote_or_was_generated_is_not_entered(tmp_path: Path) -> None:
    for name in (".git/x", ".venv/x", "node_modules/x", "__pycache__/x", "a.egg-info/x"):
        made(tmp_path, name)
    made(tmp_path, "kept.txt")

    assert [Path(file.shown).name for file in select([tmp_path]).files] == ["kept.txt"]


def test_what_cannot_be_reviewed_is_counted_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "FILE_BYTES_MAX", 1024 * 1024)
    made(tmp_path, "empty", b"")
    made(tmp_path, "binary", b"\x7fELF\0\0")
    made(tmp_path, "large", b"x" * (1024 * 1024 + 1))
    kept = made(tmp_path, "kept")
    (tmp_path / "link").symlink_to(kept)
    os.mkfifo(tmp_path / "pipe")

    selection = select([tmp_path])

    assert [Path(file.shown).name for file in selection.files] == ["kept"]
    assert selection.left_out == {
        "empty": 1,
        "binary": 1,
        "larger than 1 MiB": 1,
        "link": 1,
        "not a regular file": 1,
    }


def test_a_file_that_cannot_be_read_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path, "secret")

    def refused(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refused)  # root may read everything

    assert select([tmp_path]).left_out == {"unreadable": 1}


def test_files_beyond_the_limit_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "FILES_MAX", 2)
    for name in "abc":
        made(tmp_path, name)

    selection = select([tmp_path])

    assert len(selection.files) == 2
    assert selection.left_out == {"beyond the limit of the job": 1}


def test_a_hostile_name_becomes_printable(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    with open(os.path.join(root, b"a\x1b[31m\xff\n.txt"), "wb") as file:
        file.write(b"x")

    [file_found] = select([tmp_path]).files

    assert file_found.shown.isprintable()


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        select([tmp_path / "absent"])
    with pytest.raises(NotADirectoryError, match="is not a folder"):
        select([made(tmp_path, "file")])


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.py", b"", "python.review"),
        ("A.PY", b"", "python.review"),
        ("run", b"#!/usr/bin/env python3\n", "python.review"),
        ("run", b"#!/bin/sh\n# python\n", "text.analyze"),
        ("a.csv", b"", "table.profile"),
        ("a.jsonl", b"", "table.profile"),
        ("a.json", b"{}", "config.check"),
        ("a.json", b" [ {", "table.profile"),
        ("a.json", b"[1, 2]", "config.check"),
        ("a.toml", b"", "config.check"),
        ("a.md", b"", "text.analyze"),
        ("Makefile", b"", "text.analyze"),
    ],
)
def test_a_file_goes_to_the_review_that_fits(name: str, data: bytes, kind: str) -> None:
    assert kind_of(name, data) == kind


@pytest.mark.parametrize(
    ("data", "binary"),
    [(b"a\0b", True), (b"plain", False), ("äö".encode("utf-16"), False), (b"\xff\xfa", False)],
)
def test_a_nul_makes_a_file_binary_unless_it_says_utf_16(data: bytes, binary: bool) -> None:
    assert is_binary(data) is binary


def test_by_default_the_repository_and_the_standard_library_are_reviewed(tmp_path: Path) -> None:
    repository, library = default_folders(tmp_path)

    assert repository == tmp_path
    assert (library / "ast.py").is_file()
