"""What the job found and how the work went, as one value that can be written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from examples.review.checks.duplicates import Copy
from examples.review.checks.review import Finding
from examples.review.figures import Latency
from examples.review.fleet import Profile
from examples.review.found import Found
from examples.review.tally import Outcome, Tally
from examples.review.trace import TraceLine

TOP = 6
COPIES = 6


@dataclass(frozen=True, slots=True)
class AgentLine:
    """What one agent did."""

    agent_id: str
    about: str
    started: int
    completed: int
    failed: int
    mean_s: float
    busy_s: float
    breaker: str


@dataclass(frozen=True, slots=True)
class Learned:
    """What the model has learned of one agent and one kind of task."""

    agent_id: str
    kind: str
    success: float
    delay_s: float


@dataclass(frozen=True, slots=True)
class Retried:
    """A task that took more than one attempt: its story and its trace."""

    task_id: str
    path: str
    attempts: list[str]
    trace: list[TraceLine]


@dataclass(slots=True)
class Report:
    """The whole report.

    Attributes:
        quiet: from the queue to the agent, for the tasks that were submitted one by one.
    """

    folders: list[str]
    files: int
    file_bytes: int
    left_out: dict[str, int]
    wall_s: float
    outcome: Outcome
    quiet: Latency
    faults: list[str]
    kinds: dict[str, int]
    severities: dict[str, int]
    rules: dict[str, dict[str, int]]
    top: dict[str, list[Finding]]
    sums: dict[str, dict[str, int]]
    languages: dict[str, int]
    keywords: list[str]
    tables: list[dict[str, Any]]
    copies: list[Copy]
    copies_count: int
    agents: list[AgentLine]
    breaker_openings: dict[str, int]
    learned: list[Learned] = field(default_factory=list)
    model_version: str = ""
    retried: Retried | None = None
    dashboard: str = ""

    @property
    def reconciles(self) -> bool:
        """Whether every task is accounted for."""
        return not self.faults

    def as_json(self) -> dict[str, Any]:
        """Returns it for programs."""
        return {**asdict(self), "reconciles": self.reconciles}


@dataclass(frozen=True, slots=True)
class Ground:
    """What the job was given to do."""

    folders: Sequence[str]
    files: int
    file_bytes: int
    left_out: Mapping[str, int]


def report_of(
    ground: Ground,
    outcome: Outcome,
    quiet: Latency,
    faults: Sequence[str],
    found: Found,
    agents: Sequence[AgentLine],
    wall_s: float,
) -> Report:
    """Returns the report; what takes asking the suite is added by whoever asks."""
    copied = found.copies()
    return Report(
        folders=list(ground.folders),
        files=ground.files,
        file_bytes=ground.file_bytes,
        left_out=dict(ground.left_out),
        wall_s=wall_s,
        outcome=outcome,
        quiet=quiet,
        faults=list(faults),
        kinds=dict(found.reviews.most_common()),
        severities=found.by_severity(),
        rules={kind: dict(counts.most_common()) for kind, counts in found.counts.items() if counts},
        top={kind: top for kind in found.reviews if (top := found.top(kind, TOP))},
        sums={kind: dict(sums) for kind, sums in found.sums.items()},
        languages=dict(found.languages.most_common(8)),
        keywords=[word for word, _ in found.keywords.most_common(12)],
        tables=[
            {"path": table.path, "rows": table.rows, "columns": table.columns}
            for table in found.tables[:20]
        ],
        copies=copied[:COPIES],
        copies_count=len(copied),
        agents=list(agents),
        breaker_openings={},
    )


def agent_lines(
    fleet: Sequence[Profile], tally: Tally, breakers: Mapping[str, str]
) -> list[AgentLine]:
    """Returns what each agent did, the busiest first."""
    lines = []
    for profile in fleet:
        did = tally.agent(profile.agent_id)
        lines.append(
            AgentLine(
                agent_id=profile.agent_id,
                about=profile.about,
                started=did.started,
                completed=did.completed,
                failed=did.failed,
                mean_s=did.mean_s,
                busy_s=sum(did.runs_s),
                breaker=breakers.get(profile.agent_id, "closed"),
            )
        )
    return sorted(lines, key=lambda line: (-line.completed, line.agent_id))
