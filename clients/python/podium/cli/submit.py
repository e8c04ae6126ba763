"""`podium submit`: one task, or one for each line of a file."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from podium.cli import shown
from podium.cli.output import (
    FAILED,
    Json,
    console,
    errors,
    fail,
    plain,
    print_json,
    run,
    wrong_usage,
)
from podium.sdk import payloads, specs
from podium.sdk.client import Client
from podium.sdk.errors import PodiumError
from podium.sdk.handle import TaskHandle
from podium.sdk.results import Outcome
from podium.sdk.specs import SubmitOptions
from podium.v1 import task_pb2

app = typer.Typer()

CHUNK_LEN = 2_000
_RATE = re.compile(r"(.+)=([0-9]{1,7})/([0-9]+(?:\.[0-9]+)?)?(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


@app.command()
def submit(
    type: Annotated[str, typer.Argument(help="Kind of work, for example text.summarize.")],
    payload: Annotated[
        str, typer.Argument(help="Text or JSON; @file reads a file, - standard input.")
    ] = "",
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait for the result.")] = False,
    lines: Annotated[
        Path | None, typer.Option(help="Submit one task for each line of this file.")
    ] = None,
    priority: Annotated[
        int, typer.Option("--priority", "-p", min=0, max=9, help="Higher is sooner.")
    ] = 5,
    capability: Annotated[
        list[str] | None,
        typer.Option(
            "--capability",
            "-c",
            help="Required of the agent, NAME[@LEAST_VERSION]; default: the type.",
        ),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", "-l", help="key=value, for search.")
    ] = None,
    request_id: Annotated[str, typer.Option(help="Idempotency key.")] = "",
    retries: Annotated[
        int | None, typer.Option(min=0, max=100, help="After the first try.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for one attempt.")] = 0.0,
    deadline: Annotated[float, typer.Option(help="Seconds until the task expires.")] = 0.0,
    delay: Annotated[float, typer.Option(help="Seconds before it may begin.")] = 0.0,
    depends_on: Annotated[list[str] | None, typer.Option(help="Tasks to wait for.")] = None,
    skip_on_failure: Annotated[
        bool, typer.Option(help="Cancel it as skipped, not failed, when one of these fails.")
    ] = False,
    key: Annotated[
        list[str] | None,
        typer.Option("--key", "-k", help="Concurrency key: only so many of it run at once."),
    ] = None,
    key_limit: Annotated[
        int, typer.Option(min=0, help="So many for each --key; default 1, or as set.")
    ] = 0,
    rate: Annotated[
        list[str] | None,
        typer.Option("--rate", "-r", help="key=number/time, as api=60/1m: so many may start."),
    ] = None,
    sticky: Annotated[str, typer.Option(help="Prefer the agent that had this key last.")] = "",
    prefer: Annotated[
        list[str] | None, typer.Option(help="Capability that is good to have.")
    ] = None,
    parent: Annotated[str, typer.Option(help="The task that this one is part of.")] = "",
    tenant: Annotated[str, typer.Option(help="Owner, for fairness and quotas.")] = "",
    max_cost: Annotated[float, typer.Option(min=0, help="Over all attempts.")] = 0.0,
    max_tokens: Annotated[int, typer.Option(min=0, help="Over all attempts.")] = 0,
    content_type: Annotated[str, typer.Option(help="Media type of the payload.")] = "",
    fail_fast: Annotated[bool, typer.Option(help="Refuse it when no agent could run it.")] = False,
    json: Json = False,
) -> None:
    """Submit a task."""
    options: SubmitOptions = {
        "priority": priority,
        "capabilities": capability or [],
        "labels": labels_of(label or []),
        "depends_on": depends_on or [],
        "attempt_timeout_s": timeout,
        "fail_fast": fail_fast,
        "on_failed_dependency": "skip" if skip_on_failure else "fail",
        "concurrency_keys": key or [],
        "concurrency_limit": key_limit,
        "rate_limits": [rate_of(each) for each in rate or []],
        "sticky_key": sticky,
        "preferred": prefer or [],
        "parent_task_id": parent,
        "tenant": tenant,
    }
    if max_cost:
        options["max_cost"] = max_cost
    if max_tokens:
        options["max_tokens"] = max_tokens
    if request_id:
        options["request_id"] = request_id
    if retries is not None:
        options["max_retries"] = retries
    if deadline:
        options["deadline"] = timedelta(seconds=deadline)
    if delay:
        options["not_before"] = timedelta(seconds=delay)
    if lines is not None:
        payload_list = [line.encode() for line in _read(lines).decode().splitlines() if line]
    else:
        payload_list = [payload_bytes(payload)]
    try:
        bodies = [as_payload(data, content_type) for data in payload_list]
        tasks = [specs.build(type, body, options) for body in bodies]
    except PodiumError as error:
        fail(error, as_json=json)
    if lines is None:
        run(lambda client: _one(client, tasks[0], wait=wait, as_json=json), as_json=json)
    else:
        run(lambda client: _many(client, tasks, wait=wait, as_json=json), as_json=json)


async def _one(client: Client, spec: task_pb2.TaskSpec, *, wait: bool, as_json: bool) -> None:
    handle = await client.submit_soon(spec)
    if not wait:
        if as_json:
            print_json({"taskId": handle.task_id})
        else:
            console.print(handle.task_id)
        return
    if not as_json:
        errors.print(f"[dim]{handle.task_id}[/]")
        with errors.status("waiting for the result"):
            outcome = await handle.outcome()
    else:
        outcome = await handle.outcome()
    if as_json:
        print_json(_told(outcome))
    if outcome.state != task_pb2.Task.STATE_COMPLETED:
        if not as_json:
            outcome.payload()  # raises, and the error is told
        raise typer.Exit(FAILED)
    if not as_json:
        console.print(shown.payload(outcome.result))


async def _many(
    client: Client, tasks: Sequence[task_pb2.TaskSpec], *, wait: bool, as_json: bool
) -> None:
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=errors,
        disable=as_json,
    )
    failed = 0
    with bar:
        submitting = bar.add_task("submitted", total=len(tasks))
        handles: list[TaskHandle] = []
        for start in range(0, len(tasks), CHUNK_LEN):
            handles += await client.submit_many(tasks[start : start + CHUNK_LEN])
            bar.update(submitting, completed=len(handles))
        if wait:
            ending = bar.add_task("ended", total=len(tasks))
            for done in asyncio.as_completed([handle.outcome() for handle in handles]):
                outcome = await done
                failed += outcome.state != task_pb2.Task.STATE_COMPLETED
                bar.advance(ending)
                if as_json:
                    print_json(_told(outcome))
    if not wait:
        for handle in handles:
            if as_json:
                print_json({"taskId": handle.task_id})
            else:
                console.print(handle.task_id)
    elif not as_json:
        console.print(f"{len(handles) - failed} completed, {failed} failed")
    if failed:
        raise typer.Exit(FAILED)


def _told(outcome: Outcome) -> dict[str, Any]:
    told: dict[str, Any] = {
        "taskId": outcome.task_id,
        "state": shown.state_name(outcome.state),
    }
    if outcome.state == task_pb2.Task.STATE_COMPLETED:
        result = payloads.decode(outcome.result)
        told["result"] = result.hex() if isinstance(result, bytes) else result
    else:
        told["reason"] = outcome.failure.reason
        told["message"] = outcome.failure.message
    return told


def labels_of(pairs: Sequence[str]) -> dict[str, str]:
    """Returns labels from key=value pairs."""
    labels: dict[str, str] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            wrong_usage(f"a label is key=value, not {plain(pair)!r}")
        labels[key] = value
    return labels


def rate_of(text: str) -> tuple[str, int, timedelta]:
    """Returns a rate from key=number/time."""
    found = _RATE.fullmatch(text)
    if found is None:
        wrong_usage(f"a rate is key=number/time such as api=60/1m, not {plain(text)!r}")
    key, number, amount, unit = found.groups()
    return key, int(number), timedelta(seconds=float(amount or 1) * _SECONDS[unit])


def payload_bytes(argument: str) -> bytes:
    """Returns what an argument says or where it points: @file, or - for standard input."""
    if argument == "-":
        return sys.stdin.buffer.read()
    if argument.startswith("@"):
        return _read(Path(argument[1:]))
    return argument.encode()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        wrong_usage(f"cannot read {path}: {error.strerror}")


def as_payload(data: bytes, content_type: str) -> task_pb2.Payload:
    """Returns data as a payload; without a media type it is guessed."""
    if not content_type:
        content_type = _guessed(data)
    return task_pb2.Payload(content_type=content_type, data=data)


def _guessed(data: bytes) -> str:
    """JSON where it is an object or a list, text where it is UTF-8, else bytes."""
    if data[:1] in (b"{", b"["):
        try:
            orjson.loads(data)
        except ValueError:
            pass
        else:
            return payloads.JSON
    try:
        data.decode()
    except UnicodeDecodeError:
        return payloads.BYTES
    return payloads.TEXT
