"""The report as sections of text and tables, before anything decides how they look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from examples.review.figures import Latency, duration, many, share, size
from examples.review.report import Report

TITLES = {
    "python.review": "Python",
    "config.check": "Settings",
    "text.analyze": "Texts",
    "table.profile": "Tables",
    "secrets.scan": "Secrets",
}


@dataclass(slots=True)
class Section:
    """A heading, some lines, a table.

    Attributes:
        numbers: which columns hold numbers, and so stand to the right.
    """

    title: str
    lines: list[str] = field(default_factory=list)
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    numbers: Sequence[int] = ()


def sections_of(report: Report) -> Iterator[Section]:
    """Yields the sections in the order of reading: what was found, then how the work went."""
    yield _summary(report)
    yield from _findings(report)
    if report.tables:
        yield _tables(report)
    if report.copies:
        yield _copies(report)
    yield _tasks(report)
    yield _agents(report)
    if report.learned:
        yield _learned(report)
    if report.retried is not None:
        yield _retried(report)


def _summary(report: Report) -> Section:
    out = report.left_out
    grades = report.severities
    lines = [
        f"{many(report.files, 'file')} ({size(report.file_bytes)}) of "
        f"{' and '.join(report.folders)}, reviewed in {duration(report.wall_s)} as "
        f"{many(report.outcome.submitted, 'task')}.",
        f"Found: {many(grades['error'], 'error')}, {many(grades['warning'], 'warning')}, "
        f"{many(grades['note'], 'note')}.",
    ]
    if python := report.sums.get("python.review"):
        documented = share(python["documented"], python["documentable"])
        lines.append(
            f"Python: {python['lines']:,} lines, {python['functions']:,} functions and "
            f"{python['classes']:,} classes, {documented} of what is public is documented."
        )
    if report.languages:
        told = ", ".join(f"{name} {count}" for name, count in report.languages.items())
        lines.append(f"Texts by language: {told}.")
    if report.keywords:
        lines.append(f"They are about {', '.join(report.keywords)}.")
    if out:
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(out.items()))
        lines.append(f"Left out: {told}.")
    return Section("What was found", lines)


def _findings(report: Report) -> Iterator[Section]:
    for kind, title in TITLES.items():
        if top := report.top.get(kind):
            counts = report.rules[kind]
            told = ", ".join(f"{rule} {count:,}" for rule, count in counts.items())
            rows = [(f.severity, f"{f.path}:{f.line}", f.message) for f in top]
            yield Section(title, [f"{told}. The gravest:"], ("", "where", "what"), rows)


def _tables(report: Report) -> Section:
    rows = []
    for table in report.tables[:6]:
        for column in table["columns"][:8]:
            measured = (
                f"{column['min']:g} to {column['max']:g}, mean {column['mean']:g}"
                if "mean" in column
                else ""
            )
            name = table["path"].rpartition("/")[2]
            missing = str(column["missing"] or "")
            rows.append(
                (name, column["name"], column["type"], missing, str(column["distinct"]), measured)
            )
    header = ("table", "column", "type", "missing", "distinct", "range")
    return Section("Columns", [], header, rows, numbers=(3, 4))


def _copies(report: Report) -> Section:
    rows = [
        (str(copy.lines), f"{copy.path}:{copy.line}", f"{copy.other_path}:{copy.other_line}")
        for copy in report.copies
    ]
    lines = [f"{report.copies_count:,} places share 12 lines or more. The longest:"]
    return Section("Copied code", lines, ("lines", "here", "and here"), rows, numbers=(0,))


def _tasks(report: Report) -> Section:
    outcome = report.outcome
    ends = ", ".join(f"{count:,} {end}" for end, count in sorted(outcome.ends.items()))
    rate = outcome.submitted / report.wall_s if report.wall_s else 0.0
    lines = [
        f"{outcome.submitted:,} submitted = {ends or 'none ended'}. {rate:,.0f} tasks a second.",
        f"{many(outcome.attempts, 'attempt')}; {many(outcome.retried, 'task')} took more than one.",
    ]
    if outcome.failures:
        told = ", ".join(f"{reason} {count}" for reason, count in sorted(outcome.failures.items()))
        lines.append(f"Attempts failed by: {told}.")
    if report.breaker_openings:
        openings = sorted(report.breaker_openings.items())
        told = ", ".join(f"{name} ({many(times, 'time')})" for name, times in openings)
        lines.append(f"The circuit breaker took out of work: {told}.")
    if outcome.policies:
        told = ", ".join(f"{name} {count:,}" for name, count in sorted(outcome.policies.items()))
        lines.append(f"Agents were chosen by: {told}.")
    lines += [f"DOES NOT ADD UP: {fault}" for fault in report.faults]
    rows = [
        _latency(f"waiting, first {report.quiet.count} one by one", report.quiet),
        _latency("waiting, all", outcome.waited),
        _latency("running", outcome.ran),
        _latency("from submit to result", outcome.total),
    ]
    header = ("latency", "p50", "p90", "p99", "greatest")
    return Section("How the work went", lines, header, rows, numbers=(1, 2, 3, 4))


def _latency(name: str, latency: Latency) -> Sequence[str]:
    values = (latency.p50_s, latency.p90_s, latency.p99_s, latency.max_s)
    return (name, *(duration(value) if latency.count else "-" for value in values))


def _agents(report: Report) -> Section:
    rows = []
    for agent in report.agents:
        ended = agent.completed + agent.failed
        rows.append(
            (
                agent.agent_id,
                agent.about,
                f"{agent.completed:,}",
                f"{agent.failed:,}" if agent.failed else "",
                share(agent.completed, ended),
                duration(agent.mean_s) if agent.completed else "-",
                duration(agent.busy_s) if agent.completed else "-",
                agent.breaker,
            )
        )
    header = ("agent", "", "done", "failed", "success", "mean", "busy", "breaker")
    return Section("Who did what", [], header, rows, numbers=(2, 3, 4, 5, 6))


def _learned(report: Report) -> Section:
    rows = []
    for kind, group in groupby(report.learned, key=lambda learned: learned.kind):
        best = sorted(group, key=lambda learned: learned.delay_s)
        told = (
            f"{learned.agent_id} {100 * learned.success:.0f} % in {duration(learned.delay_s)}"
            for learned in best
        )
        rows.append((kind, ", ".join(told)))
    lines = [
        f"Model {report.model_version} expects of each agent, by kind of task, this rate of "
        "success and this delay:"
    ]
    return Section("What was learned", lines, ("kind", "agents, the fastest first"), rows)


def _retried(report: Report) -> Section:
    retried = report.retried
    assert retried is not None
    lines = [
        f"Task {retried.task_id} ({retried.path}): {'; '.join(retried.attempts)}.",
    ]
    rows = [
        (
            line.text,
            line.service,
            f"+{duration(line.after_s)}",
            duration(line.duration_s),
            line.bar,
            line.note,
        )
        for line in retried.trace
    ]
    header = ("span", "by", "after", "took", "", "")
    return Section("One task that was retried", lines, header, rows, numbers=(2, 3))
