"""Finds code that was copied, by winnowed rolling hashes of a few lines at a time.

Each bundle of files is digested by itself, wherever an agent is free; the digests are small and
are compared at the end. Winnowing (Schleimer, Wilkerson, Aiken 2003) keeps the least hash of
every few, so any copy of `LINES + WINNOW - 1` lines shares at least one of them.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from examples.review.checks.review import Review, Source

LINES = 6
WINNOW = 4
# Six short lines are alike everywhere: closing brackets, imports, `return None`.
CHARACTERS_MIN = 120
# What is in more places than that is a licence or generated.
PLACES_MAX = 8

_PRIME = (1 << 61) - 1
_FACTOR = 1_000_003
_LEAVING = pow(_FACTOR, LINES, _PRIME)

Digest = list[tuple[int, int]]  # hash of the lines, line where they begin


@dataclass(frozen=True, slots=True)
class Copy:
    """The same lines in two places."""

    path: str
    line: int
    other_path: str
    other_line: int
    lines: int


def digest_duplicates(sources: Sequence[Source]) -> Review:
    """Digests files for `copies`."""
    digests = {source.path: digest(source) for source in sources}
    return Review.of([], digests=digests, files=len(sources))


def digest(source: Source) -> Digest:
    """Returns the winnowed hashes of a file, by line.

    Indentation, empty lines and comments do not count.
    """
    lines = list(_telling_lines(source))
    hashes = list(_rolling(lines))
    kept: dict[int, int] = {}
    for start in range(max(1, len(hashes) - WINNOW + 1) if hashes else 0):
        least = min(hashes[start : start + WINNOW])
        kept[least[1]] = least[0]
    return [(value, line) for line, value in kept.items()]


def _telling_lines(source: Source) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(source.data.splitlines(), source.first_line):
        told = line.strip()
        if told and not told.startswith((b"#", b"//")):
            yield number, told


def _rolling(lines: Sequence[tuple[int, bytes]]) -> Iterator[tuple[int, int]]:
    """Yields the hash of every LINES lines with the line where they begin."""
    value = characters = 0
    each = [zlib.crc32(told) * 2_654_435_761 + len(told) for _, told in lines]
    for index, (_, told) in enumerate(lines):
        value = (value * _FACTOR + each[index]) % _PRIME
        characters += len(told)
        if index >= LINES:
            value = (value - each[index - LINES] * _LEAVING) % _PRIME
            characters -= len(lines[index - LINES][1])
        if index >= LINES - 1 and characters >= CHARACTERS_MIN:
            yield value, lines[index - LINES + 1][0]


def copies(digests: Mapping[str, Iterable[tuple[int, int]]], lines_min: int = 12) -> list[Copy]:
    """Compares the digests of all files; the longest copies first."""
    places: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for path, digested in digests.items():
        for value, line in digested:
            places[value].append((path, line))
    shared: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for where in places.values():
        if 2 <= len(where) <= PLACES_MAX:
            where.sort()
            for index, (path, line) in enumerate(where):
                for other_path, other_line in where[index + 1 :]:
                    shared[path, other_path].append((line, other_line))
    found = [
        Copy(path, run[0][0], other_path, run[0][1], run[-1][0] - run[0][0] + LINES)
        for (path, other_path), pairs in shared.items()
        for run in _runs(pairs)
    ]
    long = [copy for copy in found if copy.lines >= lines_min and not _overlaps(copy)]
    return sorted(long, key=lambda copy: (-copy.lines, copy.path, copy.line))


def _runs(pairs: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Splits pairs of lines where the two places stop running in step."""
    pairs.sort(key=lambda pair: (_offset(pair), pair[0]))
    run: list[tuple[int, int]] = []
    for pair in pairs:
        in_step = run and _offset(pair) == _offset(run[-1]) and pair[0] - run[-1][0] <= 4 * LINES
        if run and not in_step:
            yield run
            run = []
        run.append(pair)
    if run:
        yield run


def _offset(pair: tuple[int, int]) -> int:
    return pair[0] - pair[1]


def _overlaps(copy: Copy) -> bool:
    """Tells a table whose lines resemble each other from a real copy."""
    return copy.path == copy.other_path and copy.other_line - copy.line < copy.lines
