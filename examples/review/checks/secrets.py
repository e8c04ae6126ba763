"""Scans for secrets that slipped into files, by their shapes and by their randomness."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from examples.review.checks.review import Finding, Review, Severity, Source

ENTROPY_MIN = 3.8  # bits a character; English has about 2.5, random base64 about 5

# Kind, the letters it begins with, and its whole shape. Looking for fixed letters first is forty
# times as fast as looking for the shapes.
_SHAPES: tuple[tuple[str, str, re.Pattern[str]], ...] = (
    ("private key", "-----BEGIN ", re.compile(r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----")),
    ("AWS access key", "AKIA", re.compile(r"AKIA[0-9A-Z]{16}\b")),
    ("AWS access key", "ASIA", re.compile(r"ASIA[0-9A-Z]{16}\b")),
    ("GitHub token", "gh", re.compile(r"gh[pousr]_[A-Za-z0-9]{36,}\b")),
    ("Slack token", "xox", re.compile(r"xox[abprs]-[A-Za-z0-9-]{10,}")),
    ("Google API key", "AIza", re.compile(r"AIza[0-9A-Za-z_-]{35}\b")),
    ("JSON web token", "eyJ", re.compile(r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}")),
    (
        "password in a URL",
        "://",
        re.compile(r"://[^\s:/@'\"{<%]{1,40}:[^\s:/@'\"{<%]{3,80}@[\w\[]"),
    ),
)
_WORDS = ("password", "passwd", "secret", "token", "api_key", "apikey")
_ASSIGNED = re.compile(r"(\w+)['\"]?\s*[:=]\s*['\"]([^'\"\s]{12,120})['\"]")


def scan_for_secrets(sources: Sequence[Source]) -> Review:
    """Scans files. What is found is never repeated, only what it looks like."""
    findings = [finding for source in sources for finding in _scan(source)]
    return Review.of(findings, files=len(sources), bytes=sum(len(s.data) for s in sources))


def entropy(text: str) -> float:
    """Returns Shannon's entropy in bits a character."""
    counts = Counter(text).values()
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts)


def _scan(source: Source) -> Iterator[Finding]:
    text = source.data.decode("latin-1")  # keeps bytes and characters in step
    for kind, letters, shape in _SHAPES:
        for start in _places(text, letters):
            if found := shape.match(text, start):
                said = f"{kind} ({len(found[0])} characters)"
                yield _finding(source, text, start, said, "error")
    lower = text.lower()
    for word in _WORDS:
        for start in _places(lower, word):
            found = _ASSIGNED.match(text, start)
            if found and entropy(found[2]) >= ENTROPY_MIN and any(map(str.isdigit, found[2])):
                said = (
                    f"{found[1][:40]} is given a random-looking text ({len(found[2])} characters)"
                )
                yield _finding(source, text, start, said, "warning")


def _places(text: str, letters: str) -> Iterator[int]:
    at = text.find(letters)
    while at >= 0:
        yield at
        at = text.find(letters, at + 1)


def _finding(source: Source, text: str, start: int, said: str, severity: Severity) -> Finding:
    line = text.count("\n", 0, start) + source.first_line
    return Finding(source.path, line, "secret", said, severity)
