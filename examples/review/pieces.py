"""Cuts a selection of files into tasks: one per file, and bundles for what looks at all files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from examples.review.checks.review import Source
from examples.review.files import File
from examples.review.payloads import PAYLOAD_BYTES_MAX, PLAIN_BYTES_MAX, Packed, pack

BUNDLE_BYTES_MAX = 320 * 1024
BUNDLE_FILES_MAX = 200
SMALL_BYTES = 16 * 1024

CODE = "python.review"

# 9 is the most urgent. Small Python files first: they are what most people wait for.
PRIORITIES = {
    "config.check": 7,
    "python.review": 6,
    "secrets.scan": 5,
    "text.analyze": 4,
    "duplicates.digest": 3,
    "table.profile": 2,
}
SMALL_PYTHON_PRIORITY = 8
# What one task of a type usually holds: sizes are told relative to it.
_USUAL_BYTES = {"secrets.scan": 256 * 1024, "duplicates.digest": 256 * 1024}


@dataclass(frozen=True, slots=True)
class Piece:
    """What becomes one task."""

    kind: str
    content_type: str
    data: bytes = field(repr=False)
    labels: dict[str, str]
    priority: int
    size_hint: float
    file_count: int


def pieces_of(files: Sequence[File]) -> Iterator[Piece]:
    """Yields one piece for each file, and bundles of all files for the scans across them."""
    for file in files:
        yield from _pieces_of_file(file)
    for bundle, packed in bundles(file for file in files if file.kind == CODE):
        yield _piece("secrets.scan", bundle, packed)
        yield _piece("duplicates.digest", bundle, packed)
    for bundle, packed in bundles(file for file in files if file.kind != CODE):
        yield _piece("secrets.scan", bundle, packed)


def bundles(files: Iterable[File]) -> Iterator[tuple[list[Source], Packed]]:
    """Yields groups of files, each small enough for one payload; too large files come in parts."""
    bundle: list[Source] = []
    room = BUNDLE_BYTES_MAX
    for file in files:
        source = Source(file.shown, file.data)
        if bundle and (len(file.data) > room or len(bundle) >= BUNDLE_FILES_MAX):
            yield from _fitting(bundle)
            bundle, room = [], BUNDLE_BYTES_MAX
        bundle.append(source)
        room -= len(file.data)
    if bundle:
        yield from _fitting(bundle)


def _fitting(bundle: list[Source]) -> Iterator[tuple[list[Source], Packed]]:
    """Halves a bundle that does not compress well, and cuts a file that does not fit alone."""
    packed = pack(bundle)
    if len(packed[1]) <= PAYLOAD_BYTES_MAX:
        yield bundle, packed
    elif len(bundle) > 1:
        middle = len(bundle) // 2
        yield from _fitting(bundle[:middle])
        yield from _fitting(bundle[middle:])
    else:
        yield from (([part], pack([part])) for part in parts(bundle[0]))


def _pieces_of_file(file: File) -> Iterator[Piece]:
    whole = [Source(file.shown, file.data)]
    packed = pack(whole)
    if len(packed[1]) <= PAYLOAD_BYTES_MAX:
        yield _piece(file.kind, whole, packed)
        return
    # A part of a program or of a table is none itself, but all of it is text.
    for part in parts(whole[0]):
        yield _piece("text.analyze", [part], pack([part]))


def parts(source: Source) -> Iterator[Source]:
    """Cuts a source at ends of lines into parts that travel as they are."""
    start, line = 0, source.first_line
    while start < len(source.data):
        end = start + PLAIN_BYTES_MAX
        if end < len(source.data):
            end = source.data.rfind(b"\n", start, end) + 1 or end
        data = source.data[start:end]
        yield Source(source.path, data, line, whole=False)
        line += data.count(b"\n")
        start = end


def _piece(kind: str, sources: Sequence[Source], packed: Packed) -> Piece:
    content_type, data, labels = packed
    size = sum(len(source.data) for source in sources)
    priority = PRIORITIES[kind]
    if kind == CODE and size <= SMALL_BYTES:
        priority = SMALL_PYTHON_PRIORITY
    hint = max(0.01, size / _USUAL_BYTES.get(kind, SMALL_BYTES))
    return Piece(kind, content_type, data, labels, priority, round(hint, 3), len(sources))
