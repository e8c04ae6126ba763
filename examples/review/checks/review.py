"""What a check takes and what it gives: sources, findings, facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

FINDINGS_MAX = 60  # a review; the counts stay complete, so one bad file cannot flood the report


@dataclass(frozen=True, slots=True)
class Source:
    """One file, or one part of it.

    Attributes:
        path: as people see it.
        data: the bytes as they are on disk.
        first_line: the line of the file where `data` begins.
        whole: False for a part of a file that was cut.
    """

    path: str
    data: bytes
    first_line: int = 1
    whole: bool = True

    def text(self) -> str:
        """Returns the text; bytes that are not UTF-8 become U+FFFD."""
        return self.data.decode("utf-8-sig", errors="replace")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing worth a look, at one place.

    Attributes:
        weight: how much of it there is, to tell the worst from others of its rule.
    """

    path: str
    line: int
    rule: str
    message: str
    severity: Severity = "warning"
    weight: float = 0.0


def gravity(finding: Finding) -> tuple[int, float, str, int, str]:
    """Sorts findings: the gravest first."""
    grade = SEVERITIES.index(finding.severity)
    return (grade, -finding.weight, finding.path, finding.line, finding.rule)


@dataclass(slots=True)
class Review:
    """What one task found."""

    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, findings: Iterable[Finding], **facts: Any) -> Review:
        """Keeps the gravest findings and counts all of them by rule."""
        everything = list(findings)
        everything.sort(key=gravity)
        counts = Counter(finding.rule for finding in everything)
        return cls(everything[:FINDINGS_MAX], dict(counts), facts)

    def as_json(self) -> dict[str, Any]:
        """Returns what goes over the wire."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Review:
        """Reads what came over the wire."""
        findings = [Finding(**finding) for finding in value["findings"]]
        return cls(findings, value["counts"], value["facts"])
