"""`podium why` and `podium trace`: what happened to a task, and for what reason."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence

import typer
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from podium.cli import shown
from podium.cli.output import Json, console, plain, print_json, run
from podium.sdk.client import Client
from podium.sdk.errors import NotFound
from podium.v1 import analytics_pb2, decision_pb2, task_scheduler_pb2

app = typer.Typer()

# Spans travel apart from tasks and may be a moment behind.
SPANS_S_MAX = 2.0
BAR_WIDTH = 24
NAME_WIDTH = 22
# What the tree shows of a span beside its times.
# With what is put before their values.
SHOWN_ATTRIBUTES = {"agent.id": "", "task.attempt": "attempt ", "task.outcome": ""}


@app.command()
def why(task_id: str, json: Json = False) -> None:
    """Tell for each attempt who was considered, who was left out, and why this agent."""
    explained = run(lambda client: client.explain(task_id, events=json), as_json=json)
    if json:
        print_json(explained)
        return
    task = explained.task
    console.print(f"{task.task_id} [dim]{plain(task.spec.type)}[/] {shown.state(task.state)}")
    if explained.waiting_for:
        console.print(plain(explained.waiting_for))
    for each in explained.decisions:
        console.print()
        console.print(_decision_line(each))
        console.print(_candidates(each.decision))
    if not explained.decisions and not explained.waiting_for:
        console.print("No agent has been chosen for it.")


def _decision_line(each: task_scheduler_pb2.AttemptDecision) -> str:
    decision = each.decision
    model = f", model {plain(decision.model_version)}" if decision.model_version else ""
    explored = ", exploring" if decision.explored else ""
    left_out = ", ".join(
        f"{count} {plain(reason)}" for reason, count in sorted(decision.filtered_counts.items())
    )
    return (
        f"[bold]attempt {each.attempt}[/]: {plain(decision.agent_id)} by"
        f" {plain(decision.policy)}{model}, probability {decision.probability:.2f}{explored};"
        f" {decision.eligible_count} eligible" + (f"; left out: {left_out}" if left_out else "")
    )


def _candidates(decision: decision_pb2.Decision) -> Table:
    columns: dict[str, Sequence[float]] = {
        "score": decision.scores,
        "capability": decision.capability_matches,
        "free": decision.load_balances,
        "priority": decision.priority_bonuses,
        "p(success)": decision.success_probabilities,
        "delay ms": decision.expected_delays_ms,
    }
    told = {name: values for name, values in columns.items() if values}
    rows = []
    for number, agent_id in enumerate(decision.candidate_agent_ids):
        name = plain(agent_id)
        numbers = [
            f"{values[number]:.2f}" if number < len(values) else "" for values in told.values()
        ]
        rows.append([f"[bold]{name}[/]" if agent_id == decision.agent_id else name, *numbers])
    return shown.table(["candidate", *told], rows)


@app.command()
def trace(task_id: str, json: Json = False) -> None:
    """Print a task's trace as a tree with times."""
    found = run(lambda client: _trace(client, task_id), as_json=json)
    if json:
        print_json(found)
        return
    console.print(tree_of(found))


async def _trace(client: Client, task_id: str) -> analytics_pb2.GetTraceResponse:
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + SPANS_S_MAX
    while True:
        try:
            return await client.trace(task_id)
        except NotFound:
            if loop.time() > deadline_s:
                raise
        await asyncio.sleep(0.2)


def tree_of(trace: analytics_pb2.GetTraceResponse) -> Tree:
    """Returns a trace as a tree; spans whose parent is missing hang below the root."""
    spans = sorted(trace.spans, key=lambda span: span.start_time.ToNanoseconds())
    known = {span.span_id for span in spans}
    children: dict[str, list[analytics_pb2.Span]] = defaultdict(list)
    for span in spans:
        children[span.parent_span_id if span.parent_span_id in known else ""].append(span)
    start_ns = min((span.start_time.ToNanoseconds() for span in spans), default=0)
    end_ns = max((_end_ns(span) for span in spans), default=0)
    tree = Tree(f"[dim]trace {trace.trace_id}  {shown.seconds((end_ns - start_ns) / 1e9)}[/]")

    def hang(branch: Tree, parent_id: str, depth: int) -> None:
        for span in children[parent_id]:
            line = Text.from_markup(_span_line(span, start_ns, end_ns, depth))
            line.no_wrap, line.overflow = True, "ellipsis"
            hang(branch.add(line), span.span_id, depth + 1)

    hang(tree, "", 0)
    return tree


def _span_line(span: analytics_pb2.Span, start_ns: int, end_ns: int, depth: int) -> str:
    whole_ns = max(1, end_ns - start_ns)
    offset_ns = span.start_time.ToNanoseconds() - start_ns
    before_len = min(BAR_WIDTH - 1, offset_ns * BAR_WIDTH // whole_ns)
    length = max(1, span.duration.ToNanoseconds() * BAR_WIDTH // whole_ns)
    bar = " " * before_len + "━" * min(length, BAR_WIDTH - before_len)
    colour = "red" if span.error else "cyan"
    told = " ".join(
        before + plain(span.attributes[name])
        for name, before in SHOWN_ATTRIBUTES.items()
        if name in span.attributes
    )
    error = f" [red]{plain(span.error, 80)}[/]" if span.error else ""
    took = shown.seconds(span.duration.ToNanoseconds() / 1e9)
    # Each step down the tree takes four columns, so that the bars stand under each other.
    name = f"{plain(span.name):<{max(8, NAME_WIDTH - 4 * depth)}}"
    return (
        f"{name} [{colour}]{bar:<{BAR_WIDTH}}[/] {took:>9}"
        f" [dim]{plain(span.service)} {told}[/]{error}"
    )


def _end_ns(span: analytics_pb2.Span) -> int:
    return span.start_time.ToNanoseconds() + span.duration.ToNanoseconds()
