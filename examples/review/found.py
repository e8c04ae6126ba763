"""Adds up what all reviews found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from examples.review.checks.duplicates import Copy, copies
from examples.review.checks.review import Finding, Review, Severity, gravity

A_RULE_MAX = 3  # of one rule among the top findings, so that the others are seen


@dataclass(slots=True)
class TableFound:
    """One table and its columns."""

    path: str
    rows: int
    columns: list[dict[str, Any]]


@dataclass(slots=True)
class Found:
    """Everything that was found, by kind of review."""

    reviews: Counter[str] = field(default_factory=Counter)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    findings: dict[str, list[Finding]] = field(default_factory=dict)
    severities: dict[str, Severity] = field(default_factory=dict)
    sums: dict[str, Counter[str]] = field(default_factory=dict)
    languages: Counter[str] = field(default_factory=Counter)
    keywords: Counter[str] = field(default_factory=Counter)
    tables: list[TableFound] = field(default_factory=list)
    digests: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def add(self, kind: str, path: str, review: Review) -> None:
        """Adds one review."""
        self.reviews[kind] += 1
        self.counts.setdefault(kind, Counter()).update(review.counts)
        self.findings.setdefault(kind, []).extend(review.findings)
        self.severities.update({each.rule: each.severity for each in review.findings})
        sums = self.sums.setdefault(kind, Counter())
        for name, value in review.facts.items():
            if isinstance(value, int):
                sums[name] += value
        if kind == "text.analyze":
            language = review.facts["language"]
            self.languages[language or "no prose"] += 1
            if language:
                self.keywords.update(review.facts["keywords"])
        elif kind == "table.profile":
            facts = review.facts
            self.tables.append(TableFound(path, facts["rows"], facts["columns"]))
        elif kind == "duplicates.digest":
            for name, digest in review.facts["digests"].items():
                kept = self.digests.setdefault(name, [])
                kept.extend((value, line) for value, line in digest)

    @property
    def total(self) -> int:
        """All findings."""
        return sum(sum(counts.values()) for counts in self.counts.values())

    def by_severity(self) -> dict[str, int]:
        """Counts all findings by how grave they are."""
        told: Counter[str] = Counter()
        for counts in self.counts.values():
            for rule, count in counts.items():
                told[self.severities.get(rule, "note")] += count
        return {name: told[name] for name in ("error", "warning", "note")}

    def top(self, kind: str, count: int) -> list[Finding]:
        """Returns the gravest findings of a kind of review, few of each rule."""
        seen: Counter[str] = Counter()
        chosen = []
        for finding in sorted(self.findings.get(kind, ()), key=gravity):
            seen[finding.rule] += 1
            if seen[finding.rule] <= A_RULE_MAX:
                chosen.append(finding)
        return chosen[:count]

    def copies(self) -> list[Copy]:
        """Returns the code that is in two places, the longest first."""
        return copies(self.digests)
