"""Which files of a folder are reviewed, by whom, and what is left out and why."""

from __future__ import annotations

import os
import stat
import sysconfig
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

FILES_MAX = 10_000
FILE_BYTES_MAX = 4 * 1024 * 1024
TOTAL_BYTES_MAX = 256 * 1024 * 1024
SNIFFED_BYTES = 8_192

# Folders that hold what others wrote or what was generated.
LEFT_OUT = frozenset(
    {
        "__pycache__",
        "artifacts",
        "build",
        "dist",
        "dist-packages",
        "node_modules",
        "podium-data",
        "site-packages",
        "venv",
    }
)
_KINDS = {
    "python.review": (".py", ".pyi", ".pyw"),
    "table.profile": (".csv", ".tsv", ".jsonl", ".ndjson"),
    "config.check": (".toml", ".json", ".cfg", ".ini"),
}
_KIND_BY_ENDING = {ending: kind for kind, endings in _KINDS.items() for ending in endings}


@dataclass(frozen=True, slots=True)
class File:
    """One file to review.

    Attributes:
        shown: its path as people see it, beginning with the name of the reviewed folder.
        kind: the task type of its review.
        data: all of it.
    """

    shown: str
    kind: str
    data: bytes


@dataclass(slots=True)
class Selection:
    """The files to review, and how many were left out for which reason."""

    files: list[File] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def total_bytes(self) -> int:
        """Bytes of all selected files."""
        return sum(len(file.data) for file in self.files)


def default_folders(repository: Path) -> list[Path]:
    """Returns this repository and the standard library of this Python."""
    return [repository, Path(sysconfig.get_path("stdlib"))]


def select(folders: Sequence[Path]) -> Selection:
    """Reads every file worth a review. Nothing that is wrong with one of them stops it.

    Raises:
        FileNotFoundError: a folder is not there.
        NotADirectoryError: it is not a folder.
    """
    selection = Selection()
    total_bytes = 0
    for folder in folders:
        if not folder.exists():
            raise FileNotFoundError(f"There is no folder {folder}.")
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder} is not a folder.")
        for path, shown in _walk(folder.resolve(), selection.left_out):
            if len(selection.files) >= FILES_MAX or total_bytes >= TOTAL_BYTES_MAX:
                selection.left_out["beyond the limit of the job"] += 1
                continue
            data = _read(path, selection.left_out)
            if data is not None:
                total_bytes += len(data)
                selection.files.append(File(shown, kind_of(shown, data), data))
    return selection


def _walk(folder: Path, left_out: Counter[str]) -> Iterator[tuple[Path, str]]:
    def unreadable(_: OSError) -> None:
        left_out["unreadable folder"] += 1

    for here, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not _is_left_out(name))
        for name in sorted(names):
            path = Path(here, name)
            yield path, _shown(Path(folder.name or "/", path.relative_to(folder)))


def _is_left_out(name: str) -> bool:
    return name.startswith(".") or name in LEFT_OUT or name.endswith(".egg-info")


def _shown(path: Path) -> str:
    """Makes any name printable: bytes that are no UTF-8 and control characters are replaced."""
    text = os.fsencode(path).decode("utf-8", errors="replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _read(path: Path, left_out: Counter[str]) -> bytes | None:
    """Returns the bytes of a text file; else None, with the reason counted."""
    try:
        facts = path.lstat()
        if not stat.S_ISREG(facts.st_mode):
            reason = "link" if stat.S_ISLNK(facts.st_mode) else "not a regular file"
        elif facts.st_size == 0:
            reason = "empty"
        elif facts.st_size > FILE_BYTES_MAX:
            reason = f"larger than {FILE_BYTES_MAX // 1024 // 1024} MiB"
        else:
            data = path.read_bytes()
            if not is_binary(data):
                return data
            reason = "binary"
    except OSError:
        reason = "unreadable"
    left_out[reason] += 1
    return None


def is_binary(data: bytes) -> bool:
    """Tells whether a file is no text, as git does: by a NUL near its beginning.

    UTF-16 has NULs too, and a mark at its beginning.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return False
    return b"\0" in data[:SNIFFED_BYTES]


def kind_of(shown: str, data: bytes) -> str:
    """Names the review that fits a file, by its name and, for scripts and JSON, by its content."""
    kind = _KIND_BY_ENDING.get(Path(shown).suffix.lower())
    if kind is None:
        first = data[:100].split(b"\n", 1)[0]
        return "python.review" if first.startswith(b"#!") and b"python" in first else "text.analyze"
    if shown.lower().endswith(".json") and data.lstrip()[:1] == b"[":
        # A list of objects is a table; other lists are as good as settings.
        return "table.profile" if data.lstrip()[1:].lstrip()[:1] == b"{" else "config.check"
    return kind
