"""Analyses text: how much, how readable, in which language, about what, and how well encoded."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from examples.review.checks.review import Finding, Review, Source

LINE_CHARACTERS_MAX = 400
KEYWORDS = 6

# The most frequent words of a language give it away, and say nothing about the subject.
STOP_WORDS: dict[str, frozenset[str]] = {
    "English": frozenset(
        "the of and to in is that it for was on are as with be at by this from or an have not "
        "but which you all were when your can if there use will we other more these than then "
        "its only may should must any has one so no do into would been what how also such where "
        "our their they them he his she her had who each some like between both over very before "
        "after does did because while through".split()
    ),
    "German": frozenset(
        "der die und das ist nicht ein eine zu den mit auf dem des für von im sich auch als "
        "wird bei oder sind werden aus nach wie wenn noch einen einer durch kann nur".split()
    ),
    "French": frozenset(
        "le la les et des est une dans que pour qui sur pas par avec sont ce au plus ou cette "
        "vous nous mais être ont fait aux leur elle ses comme".split()
    ),
    "Spanish": frozenset(
        "el los las una que por con para del es como más pero sus está son entre cuando muy sin "
        "sobre también hasta desde todo nos durante ser hay".split()
    ),
    "Italian": frozenset(
        "il che di non una per sono con del della gli nel alla più anche come dei questo essere "
        "dal delle nella stato loro".split()
    ),
    "Dutch": frozenset(
        "het een van dat niet voor met zijn aan ook wordt door naar bij maar worden deze kan "
        "hebben uit nog wel als".split()
    ),
    "Portuguese": frozenset(
        "não uma para com por mais como dos das foi ao pelo pela são também seu sua até isso "
        "entre quando muito nos já".split()
    ),
}
_EVERY_STOP_WORD = frozenset().union(*STOP_WORDS.values())

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_SENTENCE_END = re.compile(r"[.!?…]+(?:\s|$)|\n\s*\n")
_VOWELS = re.compile(r"[aeiouyäöüáàâéèêëíìîïóòôúùû]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")


def analyze_text(source: Source) -> Review:
    """Analyses one text."""
    text = source.text()
    words = [word.lower() for word in _WORD.findall(text)]
    lines = text.splitlines()
    return Review.of(
        _faults(source, text, lines),
        lines=len(lines),
        words=len(words),
        language=language(words),
        reading_ease=reading_ease(text, words),
        keywords=keywords(text),
        longest_line=max(map(len, lines), default=0),
    )


def language(words: Sequence[str]) -> str:
    """Names the language whose most frequent words are most frequent here; "" when none is."""
    if len(words) < 20:
        return ""
    counts = Counter(words)
    shares = {
        name: sum(counts[word] for word in stop_words) / len(words)
        for name, stop_words in STOP_WORDS.items()
    }
    best = max(shares, key=lambda name: shares[name])
    return best if shares[best] > 0.08 else ""


def reading_ease(text: str, words: Sequence[str]) -> float | None:
    """Gives Flesch's reading ease, 0 (hard) to 100 (easy); None for what is hardly prose."""
    if len(words) < 100:
        return None
    sentences = max(1, len(_SENTENCE_END.findall(text)))
    syllables = sum(max(1, len(_VOWELS.findall(word))) for word in words)
    ease = 206.835 - 1.015 * len(words) / sentences - 84.6 * syllables / len(words)
    return round(min(100.0, max(0.0, ease)), 1)


def keywords(text: str) -> list[str]:
    """Gives the words the text is about, best first.

    Scored as term frequency times inverse document frequency with the text's own paragraphs as
    the documents: a word of one subject sits in few of them, a word of style in most.
    """
    paragraphs = [paragraph for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()]
    frequency: Counter[str] = Counter()
    spread: Counter[str] = Counter()
    for paragraph in paragraphs:
        found = [w for w in _WORD.findall(paragraph.lower()) if len(w) > 3]
        frequency.update(found)
        spread.update(set(found))
    scores = {
        word: count * math.log(1 + len(paragraphs) / spread[word])
        for word, count in frequency.items()
        if count > 1 and word not in _EVERY_STOP_WORD
    }
    return sorted(scores, key=lambda word: (-scores[word], word))[:KEYWORDS]


def _faults(source: Source, text: str, lines: Sequence[str]) -> Iterator[Finding]:
    def found(line: int, rule: str, message: str, severity: str = "warning") -> Finding:
        where = line + source.first_line - 1
        return Finding(source.path, where, rule, message, severity)  # type: ignore[arg-type] # one of three

    yield from _encoding_faults(source)
    if control := _CONTROL.search(text):
        line = text.count("\n", 0, control.start()) + 1
        yield found(line, "control-character", f"U+{ord(control[0]):04X} in a text")
    endings = {kind for kind in re.findall(r"\r\n|\n|\r", text[:1_000_000])}
    if len(endings) > 1:
        yield found(1, "mixed-line-ends", "lines end in more than one way", "note")
    longest = max(range(len(lines)), key=lambda i: len(lines[i]), default=0)
    if lines and len(lines[longest]) > LINE_CHARACTERS_MAX:
        said = f"a line of {len(lines[longest]):,} characters"
        yield found(longest + 1, "long-line", said, "note")
    trailing = [number for number, line in enumerate(lines, 1) if line != line.rstrip(" \t")]
    if trailing:
        said = f"{len(trailing)} lines end in spaces"
        yield found(trailing[0], "trailing-space", said, "note")


def _encoding_faults(source: Source) -> Iterator[Finding]:
    try:
        source.data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = source.data.count(b"\n", 0, error.start) + source.first_line
        byte = source.data[error.start]
        said = f"byte 0x{byte:02X} is not UTF-8 ({error.reason})"
        yield Finding(source.path, line, "encoding", said)
