from __future__ import annotations

import io
import random
import zipfile

import pytest

from examples.review.checks.review import Source
from examples.review.files import File
from examples.review.payloads import PAYLOAD_BYTES_MAX, ZIP, PayloadRefused, pack, unpack
from examples.review.pieces import Piece, parts, pieces_of


def sources_of(piece: Piece) -> list[Source]:
    return unpack(piece.content_type, piece.data, piece.labels)


def noise(length: int) -> bytes:
    """Text that does not compress."""
    draw = random.Random(length)
    return bytes(
        draw.choice(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJ0123456789+/\n") for _ in range(length)
    )


@pytest.mark.parametrize(
    "sources",
    [
        [Source("a.py", b"x = 1\n")],
        [Source("a.py", b"caf\xe9\r\n", first_line=1)],
        [Source("a.txt", b"part\n", first_line=77, whole=False)],
        [Source("a.py", b"x" * 300_000)],
        [Source("a.py", b"1"), Source("b/ü.py", b"2")],
        [Source("deep/" * 60 + "a.py", b"x")],
    ],
)
def test_what_is_packed_is_unpacked_the_same(sources: list[Source]) -> None:
    assert unpack(*pack(sources)) == sources


def test_a_small_file_travels_readable_with_its_name_in_a_label() -> None:
    assert pack([Source("a.py", b"x = 1\n")]) == ("text/plain", b"x = 1\n", {"path": "a.py"})


def test_labels_stay_within_what_podium_takes() -> None:
    _, _, labels = pack([Source("x" * 1_000, b"1"), Source("b", b"2")])

    assert all(len(value) <= 256 for value in labels.values())


def test_equal_files_make_equal_payloads() -> None:
    sources = [Source("a", b"1"), Source("b", b"2")]

    assert pack(sources) == pack(sources)


def test_a_payload_that_is_no_archive_is_refused() -> None:
    with pytest.raises(PayloadRefused, match="not a readable archive"):
        unpack(ZIP, b"PK\x05\x06 no archive", {})


def test_an_archive_that_unpacks_to_far_too_much_is_refused() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr("bomb", b"\0" * 20_000_000)
    assert len(archive.getvalue()) < PAYLOAD_BYTES_MAX

    with pytest.raises(PayloadRefused, match="unpacks to more than"):
        unpack(ZIP, archive.getvalue(), {})


def test_every_file_is_one_piece_and_in_one_bundle_of_each_scan() -> None:
    files = [File("a.py", "python.review", b"x = 1\n"), File("b.txt", "text.analyze", b"x\n")]

    pieces = list(pieces_of(files))

    assert [(p.kind, [s.path for s in sources_of(p)]) for p in pieces] == [
        ("python.review", ["a.py"]),
        ("text.analyze", ["b.txt"]),
        ("secrets.scan", ["a.py"]),
        ("duplicates.digest", ["a.py"]),
        ("secrets.scan", ["b.txt"]),
    ]


def test_small_programs_come_before_large_ones_and_tables_last() -> None:
    files = [
        File("t.csv", "table.profile", b"a\n1\n"),
        File("large.py", "python.review", b"#" * 20_000),
        File("small.py", "python.review", b"#"),
    ]

    priorities = {p.labels["path"]: p.priority for p in list(pieces_of(files))[:3]}

    assert priorities["small.py"] > priorities["large.py"] > priorities["t.csv"]


def test_no_piece_is_larger_than_a_payload_and_nothing_is_lost() -> None:
    files = [File(f"{i}.py", "python.review", noise(size)) for i, size in enumerate(
        [10, 190_000, 230_000, 700_000, 50_000, 50_000, 50_000]
    )]  # fmt: skip

    pieces = list(pieces_of(files))

    assert max(len(piece.data) for piece in pieces) <= PAYLOAD_BYTES_MAX
    for kinds in (("python.review", "text.analyze"), ("secrets.scan",), ("duplicates.digest",)):
        seen: dict[str, bytes] = {}
        for piece in pieces:
            if piece.kind in kinds:
                for source in sources_of(piece):
                    seen[source.path] = seen.get(source.path, b"") + source.data
        assert seen == {file.shown: file.data for file in files}


def test_a_large_file_that_compresses_travels_whole() -> None:
    [piece, *_] = pieces_of([File("a.py", "python.review", b"x = 1\n" * 100_000)])

    assert (piece.kind, piece.content_type) == ("python.review", ZIP)
    assert piece.size_hint > 30


def test_parts_are_cut_at_ends_of_lines_and_know_where_they_begin() -> None:
    text = b"".join(b"line %d\n" % number for number in range(1, 60_001))

    cut = list(parts(Source("a.log", text)))

    assert b"".join(part.data for part in cut) == text
    assert len(cut) > 1
    assert all(part.data.startswith(b"line %d\n" % part.first_line) for part in cut)
    assert not any(part.whole for part in cut)


def test_a_line_without_end_is_cut_all_the_same() -> None:
    cut = list(parts(Source("a", b"x" * 500_000)))

    assert sum(len(part.data) for part in cut) == 500_000
