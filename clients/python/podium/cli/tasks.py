"""`podium get`, `list`, `watch`, `cancel`, `requeue` and `answer`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table

from podium.cli import shown
from podium.cli.output import FAILED, Json, console, errors, plain, print_json, run, wrong_usage
from podium.cli.submit import as_payload, payload_bytes
from podium.sdk.bulk import Progress
from podium.sdk.client import Client
from podium.v1 import event_pb2, task_pb2

app = typer.Typer()

TaskIds = Annotated[list[str] | None, typer.Argument(help="Task ids.")]
Type = Annotated[str, typer.Option("--type", "-t", help="Only tasks of this type.")]
States = Annotated[
    list[str] | None, typer.Option("--state", "-s", help="Only in this state, for example failed.")
]
Text = Annotated[str, typer.Option("--error", help="Only whose failure contains this text.")]
Labels = Annotated[
    list[str] | None, typer.Option("--label", "-l", help="Only with this label: key=value.")
]
Tenant = Annotated[str, typer.Option(help="Only tasks of this tenant.")]


@app.command()
def get(task_id: str, json: Json = False) -> None:
    """Show one task."""
    task = run(lambda client: client.get(task_id), as_json=json)
    if json:
        print_json(task)
        return
    grid = Table.grid(padding=(0, 2))
    for name, value in _facts(task):
        if value:
            grid.add_row(f"[dim]{name}[/]", value)
    console.print(grid)
    if task.attempts:
        console.print(_attempts(task))


def _facts(task: task_pb2.Task) -> list[tuple[str, str]]:
    spec, failure = task.spec, task.failure
    progress = f"{task.progress_fraction:.0%} {plain(task.progress_message)}"
    return [
        ("task", task.task_id),
        ("type", plain(spec.type)),
        ("state", shown.state(task.state)),
        ("priority", str(spec.priority)),
        ("needs", plain(", ".join(spec.required_capabilities))),
        ("labels", plain(", ".join(f"{key}={value}" for key, value in spec.labels.items()))),
        ("agent", plain(task.agent_id)),
        ("created", shown.clock(task.create_time)),
        ("started", shown.clock(task.start_time)),
        ("ended", shown.clock(task.end_time)),
        ("progress", progress if task.progress_fraction else ""),
        ("waits", plain(task.unschedulable_reason)),
        ("question", shown.payload(task.input_request)),
        ("number", str(task.question_epoch or "")),
        ("failure", plain(f"{failure.reason}: {failure.message}") if failure.reason else ""),
        ("payload", shown.payload(spec.payload)),
        ("result", shown.payload(task.result)),
    ]


def _attempts(task: task_pb2.Task) -> Table:
    rows = [
        (
            str(attempt.attempt),
            plain(attempt.agent_id),
            shown.clock(attempt.start_time),
            shown.clock(attempt.end_time),
            plain(f"{attempt.failure.reason}: {attempt.failure.message}".strip(" :"), 80),
        )
        for attempt in task.attempts
    ]
    return shown.table(["attempt", "agent", "started", "ended", "failure"], rows, cut="failure")


@app.command("list")
def list_tasks(
    state: States = None,
    type: Type = "",
    agent: Annotated[str, typer.Option(help="Only of this agent.")] = "",
    label: Labels = None,
    tenant: Tenant = "",
    error: Text = "",
    key: Annotated[str, typer.Option(help="Only with this concurrency key.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 50,
    json: Json = False,
) -> None:
    """List tasks, newest first."""
    wanted = _filter(state, type, error, agent, label, tenant)
    wanted.concurrency_key = key

    async def collect(client: Client) -> list[task_pb2.Task]:
        return [task async for task in client.list(wanted, limit=limit)]

    tasks = run(collect, as_json=json)
    if json:
        for task in tasks:
            print_json(task)
        return
    if not tasks:
        console.print("No task matches. `podium submit TYPE PAYLOAD` makes one.")
        return
    rows = [
        (
            task.task_id,
            plain(task.spec.type),
            shown.state(task.state),
            str(task.spec.priority),
            plain(task.agent_id),
            str(task.attempt_count),
            shown.age(task.create_time),
            plain(task.failure.reason, 40),
        )
        for task in tasks
    ]
    names = ["task", "type", "state", "pri", "agent", "tries", "age", "failure"]
    if not any(row[-1] for row in rows):
        names.pop()
    console.print(shown.table(names, [row[: len(names)] for row in rows], cut="type"))


@app.command()
def watch(
    task_ids: TaskIds = None,
    cursor: Annotated[
        str,
        typer.Option(
            help="Events after this point; empty = from the start of the log, also of tasks that "
            "ended so long ago that they have left memory."
        ),
    ] = "now",
    json: Json = False,
) -> None:
    """Follow events as they happen: of some tasks until they end, or of all until Ctrl-C."""
    ids = task_ids or []
    # Of a single task everything is of interest, also what came before.
    start = "" if ids and cursor == "now" else cursor

    async def follow(client: Client) -> None:
        if cursor == "now":
            for task_id in ids:
                # Of a task that there is not nothing would ever be told.
                await client.get(task_id)
        async for event in client.watch(task_ids=ids, cursor=start, until_ended=bool(ids)):
            print_json(event) if json else console.print(_line(event), soft_wrap=True)

    run(follow, as_json=json)


def _line(event: event_pb2.Event) -> str:
    details = {
        "attempt": str(event.attempt) if event.attempt else "",
        "agent": plain(event.agent_id),
        "why": _why(event),
        "done": _did(event),
        "took": _took(event),
    }
    told = " ".join(f"[dim]{name}[/] {value}" for name, value in details.items() if value)
    name = shown.event_name(event.type)
    head = f"[dim]{event.seq:>8} {shown.clock(event.event_time)}[/]"
    return f"{head} {name:<20} {event.task_id} [dim]{plain(event.task_type)}[/] {told}"


def _why(event: event_pb2.Event) -> str:
    if event.HasField("failed"):
        failure = event.failed.failure
        return plain(f"{failure.reason} {failure.message}".strip(), 80)
    return ""


def _did(event: event_pb2.Event) -> str:
    if event.HasField("progress"):
        return plain(f"{event.progress.fraction:.0%} {event.progress.message}".strip(), 80)
    return ""


def _took(event: event_pb2.Event) -> str:
    return shown.span(event.completed.total_duration) if event.HasField("completed") else ""


@app.command()
def cancel(
    task_ids: TaskIds = None,
    type: Type = "",
    state: Annotated[
        list[str] | None,
        typer.Option("--state", "-s", help="Only in this state, one that is no end: queued."),
    ] = None,
    label: Labels = None,
    tenant: Tenant = "",
    reason: Annotated[str, typer.Option(help="Why, for people.")] = "",
    keep_children: Annotated[
        bool, typer.Option("--keep-children", help="Leave the tasks that descend from them.")
    ] = False,
    json: Json = False,
) -> None:
    """Cancel tasks by id, or all open ones that match, with what descends from them."""
    wanted = chosen(task_ids, type, state, "", label, tenant)
    if wanted and (ended := [one for one in wanted.states if one in shown.ENDED]):
        name = shown.state_name(ended[0])
        wrong_usage(f"tasks that are {name} have ended: there is nothing to cancel")
    done = run(
        lambda client: client.cancel(
            task_ids or [],
            filter=wanted,
            reason=reason,
            keep_children=keep_children,
            on_progress=progress("canceled"),
        ),
        as_json=json,
    )
    if json:
        print_json({"taskIds": list(done), "descendantCount": done.descendant_count})
        return
    below = f", and {done.descendant_count:,} below them" if done.descendant_count else ""
    console.print(f"{len(done):,} canceled{below}")


@app.command()
def requeue(
    task_ids: TaskIds = None,
    type: Type = "",
    error: Text = "",
    label: Labels = None,
    tenant: Tenant = "",
    all: Annotated[bool, typer.Option("--all", help="Every dead letter.")] = False,
    payload: Annotated[
        str | None,
        typer.Option(help="Another payload for the one named: text, JSON, @file, or - for stdin."),
    ] = None,
    ignore_dependencies: Annotated[
        bool,
        typer.Option("--ignore-dependencies", help="Wait for none of the tasks it depends on."),
    ] = False,
    json: Json = False,
) -> None:
    """Revive dead letters by id or by filter; their attempts count anew."""
    wanted = None
    if all:
        wanted = _filter(None, type, error, labels=label, tenant=tenant)
    else:
        wanted = chosen(task_ids, type, None, error, label, tenant)
    instead = None if payload is None else as_payload(payload_bytes(payload), "")
    done = run(
        lambda client: client.requeue(
            task_ids or [],
            filter=wanted,
            payload=instead,
            ignore_dependencies=ignore_dependencies,
            on_progress=progress("requeued"),
        ),
        as_json=json,
    )
    tell(done, "requeued", as_json=json)
    for row in done.refusals:
        errors.print(f"{row.count:,} not requeued: {row.reason} {plain(row.message)}")
    if done.refusals:
        raise typer.Exit(FAILED)


@app.command()
def answer(
    task_id: str,
    text: str,
    question: Annotated[
        int, typer.Option(min=0, help="Its number, as `podium get` tells; 0 = what is asked now.")
    ] = 0,
    json: Json = False,
) -> None:
    """Answer a task that waits for input."""
    run(lambda client: client.provide_input(task_id, text, question=question), as_json=json)
    if json:
        print_json({"taskId": task_id})
        return
    console.print(f"{plain(task_id)} is queued again")


def progress(done: str) -> Progress | None:
    """Returns what tells a person how far a call about many tasks is; None where nobody looks."""
    if not errors.is_terminal:
        return None
    return lambda count: errors.print(f"[dim]{count:,} {done} so far[/]", end="\r")


def tell(task_ids: Sequence[str], done: str, *, as_json: bool) -> None:
    """Tells how many tasks something was done to."""
    if as_json:
        print_json({"taskIds": list(task_ids)})
    else:
        console.print(f"{len(task_ids)} {done}")


def chosen(
    task_ids: Sequence[str] | None,
    type: str,
    states: Sequence[str] | None = None,
    error: str = "",
    labels: Sequence[str] | None = None,
    tenant: str = "",
) -> task_pb2.TaskFilter | None:
    """Returns the filter of a command, or None when it names tasks."""
    if bool(task_ids) == bool(type or states or error or labels or tenant):
        wrong_usage("give task ids, or a filter such as --type; not both, not neither")
    return None if task_ids else _filter(states, type, error, labels=labels, tenant=tenant)


def _filter(
    states: Sequence[str] | None,
    type: str,
    error: str,
    agent: str = "",
    labels: Sequence[str] | None = None,
    tenant: str = "",
) -> task_pb2.TaskFilter:
    wanted = task_pb2.TaskFilter(type=type, failure_text=error, agent_id=agent, tenant=tenant)
    for name in states or ():
        try:
            wanted.states.append(shown.STATES[name.lower()])
        except KeyError:
            known = ", ".join(shown.STATES)
            wrong_usage(f"no state is called {plain(name)!r}; there are {known}")
    for pair in labels or ():
        key, _, value = pair.partition("=")
        wanted.labels[key] = value
    return wanted
