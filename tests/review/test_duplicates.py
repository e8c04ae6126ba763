from __future__ import annotations

import pytest

from examples.review.checks.duplicates import LINES, WINNOW, copies, digest, digest_duplicates
from examples.review.checks.review import Source


def lines(count: int, word: str = "value") -> list[str]:
    return [f"{word}_{i} = compute_something_with({word}, {i})" for i in range(count)]


def source(path: str, *text: str) -> Source:
    return Source(path, "\n".join(text).encode())


def compared(*sources: Source) -> list[tuple[str, int, str, int, int]]:
    digests = {each.path: digest(each) for each in sources}
    return [(c.path, c.line, c.other_path, c.other_line, c.lines) for c in copies(digests)]


def test_a_copy_is_found_where_it_begins_in_both_files() -> None:
    copied = lines(40)

    found = compared(
        source("a.py", *lines(10, "alpha"), *copied, *lines(10, "beta")),
        source("b.py", *lines(3, "gamma"), *copied),
    )

    [(path, line, other_path, other_line, length)] = found
    assert (path, other_path) == ("a.py", "b.py")
    assert line - other_line == 7
    assert 11 <= line < 11 + WINNOW
    assert 40 - 2 * WINNOW < length <= 40


@pytest.mark.parametrize("length", range(LINES + WINNOW - 1, LINES + WINNOW + 6))
def test_any_copy_long_enough_shares_a_hash(length: int) -> None:
    copied = lines(length)
    first = digest(source("a", *lines(9, "alpha"), *copied, *lines(9, "beta")))
    second = digest(source("b", *lines(4, "gamma"), *copied, *lines(5, "delta")))

    assert {value for value, _ in first} & {value for value, _ in second}


def test_indentation_comments_and_empty_lines_do_not_hide_a_copy() -> None:
    copied = lines(30)
    disguised = [f"    {line}" for line in copied]
    disguised.insert(0, "# another comment")

    assert len(compared(source("a.py", *copied), source("b.py", *disguised))) == 1


def test_different_files_have_nothing_in_common() -> None:
    assert compared(source("a.py", *lines(50)), source("b.py", *lines(50, "other"))) == []


def test_what_is_everywhere_is_no_copy() -> None:
    licence = lines(30, "licence")

    assert compared(*(source(f"{i}.py", *licence) for i in range(9))) == []


def test_short_lines_are_alike_without_being_copied() -> None:
    assert digest(source("a.py", *(["}", ")", "x"] * 50))) == []


def test_a_table_that_resembles_itself_is_no_copy() -> None:
    assert compared(source("a.py", *(["    (0x00, 0x00, 0x00, 0x00, 0x00),"] * 100))) == []


def test_a_copy_within_one_file_is_found() -> None:
    copied = lines(30)

    [(path, line, other_path, other_line, _)] = compared(
        source("a.py", *copied, *lines(20, "alpha"), *copied)
    )

    assert (path, other_path) == ("a.py", "a.py")
    assert other_line - line == 50


def test_a_digest_goes_over_the_wire_as_a_fact_of_each_file() -> None:
    review = digest_duplicates([source("a.py", *lines(20)), source("b.py", "x")])

    assert set(review.facts["digests"]) == {"a.py", "b.py"}
    assert review.facts["digests"]["b.py"] == []
    assert review.findings == []
