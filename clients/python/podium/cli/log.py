"""`podium log`: the event log of a scheduler that runs, exported and checked."""

from __future__ import annotations

from typing import Annotated

import typer

from podium.cli import shown
from podium.cli.output import Json, console, errors, plain, print_json, run
from podium.sdk.client import Client
from podium.v1 import task_scheduler_pb2

app = typer.Typer()
log = typer.Typer(
    help="Export the event log, and check that it is what was written.",
    epilog="Without a scheduler: python -m services.task_scheduler log --help.",
)
app.add_typer(log, name="log")


@log.command()
def export(
    cursor: Annotated[str, typer.Option(help="Only events after this point.")] = "",
) -> None:
    """Write the events that are kept, payloads included, as JSON Lines."""

    async def write(client: Client) -> None:
        async for event in client.log.events(cursor):
            print_json(event)

    run(write)


@log.command()
def verify(json: Json = False) -> None:
    """Follow the chain of hashes from the first event that is kept to the last.

    Ends with 1 when an event is not what was written.
    """

    async def follow(client: Client) -> list[task_scheduler_pb2.VerifyLogResponse]:
        found: dict[int, task_scheduler_pb2.VerifyLogResponse] = {}
        with errors.status("checking") as status:
            async for last in client.log.verify():
                found[last.partition] = last
                status.update(f"checking: event {last.checked_seq:,} of {last.durable_seq:,}")
        return list(found.values())

    found = run(follow, as_json=json)
    for one in found:
        if json:
            print_json(one)
            continue
        where = f"partition {one.partition}: " if len(found) > 1 else ""
        first_seq = one.compacted_seq + 1
        console.print(f"{where}events {first_seq:,} to {one.checked_seq:,} are what was written")


@app.command()
def partitions(json: Json = False) -> None:
    """Show the partitions of the scheduler: who owns each, and how long its log is."""
    found = run(lambda client: client.log.partitions(), as_json=json)
    if json:
        for one in found:
            print_json(one)
        return
    rows = [
        (str(one.partition), plain(one.owner_address) or "-", f"{one.durable_seq:,}")
        for one in found
    ]
    console.print(shown.table(["partition", "owner", "events"], rows))
