from __future__ import annotations

import pytest

from examples.review.checks.review import Source
from examples.review.checks.text import analyze_text, keywords, language, reading_ease


def counts(data: bytes) -> dict[str, int]:
    return analyze_text(Source("a.txt", data)).counts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "The harbour was quiet and the ships that had been there for weeks were not to be "
            "seen, so we went on with our work as if there was nothing in the news of the day.",
            "English",
        ),
        (
            "Der Hafen war still und die Schiffe, die seit Wochen dort lagen, sind nicht mehr zu "
            "sehen; wir werden also mit der Arbeit auf dem Hof nach und nach fertig, wenn es geht.",
            "German",
        ),
        (
            "Le port est calme et les navires que nous avons vus dans la baie ne sont pas là; "
            "nous allons avec les autres sur la côte pour la journée, mais sans une carte.",
            "French",
        ),
        ("alpha beta gamma delta " * 20, ""),
        ("the and of", ""),
    ],
)
def test_the_language_is_the_one_whose_small_words_are_there(text: str, expected: str) -> None:
    assert language(text.lower().replace(",", "").replace(";", "").split()) == expected


def test_short_words_in_short_sentences_read_more_easily() -> None:
    easy = "The cat sat on the mat. It was a hot day. " * 20
    hard = (
        "Organizational considerations necessitate comprehensive interdisciplinary analysis, " * 20
    )

    easy_score = reading_ease(easy, easy.split())
    hard_score = reading_ease(hard, hard.split())

    assert easy_score is not None and hard_score is not None
    assert easy_score > 90 > 10 > hard_score
    assert reading_ease("Too short.", ["too", "short"]) is None


def test_keywords_are_the_words_of_a_subject_and_not_of_the_style() -> None:
    about_leases = "A lease is renewed. Every lease has an epoch, and this lease ends."
    rest = "This document describes something that follows."
    text = "\n\n".join([about_leases, rest, rest, rest, rest])

    found = keywords(text)

    assert found[0] == "lease"
    assert "this" not in found


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"fine\n", {}),
        ("fine: äöü ✓\n".encode(), {}),
        ("\N{BOM}fine\n".encode(), {}),
        (b"caf\xe9\n", {"encoding": 1}),
        (b"a\x07b\n", {"control-character": 1}),
        (b"a\r\nb\n", {"mixed-line-ends": 1}),
        (b"a \nb\t\nc\n", {"trailing-space": 1}),
        (b"x" * 401, {"long-line": 1}),
        (b"\n\n\n", {}),
    ],
)
def test_faults_of_a_text_are_found(data: bytes, expected: dict[str, int]) -> None:
    assert counts(data) == expected


def test_a_fault_is_told_with_the_line_of_the_whole_file() -> None:
    review = analyze_text(Source("a.txt", b"one\ntwo \xff\n", first_line=100, whole=False))

    assert [(f.line, f.rule) for f in review.findings] == [(101, "encoding")]


def test_a_text_is_counted() -> None:
    facts = analyze_text(Source("a.txt", b"Three short words.\nAnd more.\n")).facts

    assert (facts["lines"], facts["words"], facts["longest_line"]) == (2, 5, 18)
