"""`podium schedule`: tasks that come again and again."""

from __future__ import annotations

from typing import Annotated, cast

import typer
from rich.table import Table

from podium.cli import shown
from podium.cli.output import Json, console, plain, print_json, run, wrong_usage
from podium.cli.submit import as_payload, labels_of, payload_bytes
from podium.sdk.client import Client
from podium.sdk.schedules import CatchUp, Overlap
from podium.sdk.specs import SubmitOptions
from podium.v1 import schedule_pb2

app = typer.Typer()
schedule = typer.Typer(help="Make tasks that come again and again.")
app.add_typer(schedule, name="schedule")

OVERLAPS = ("skip", "queue", "cancel_running", "allow")
CATCH_UPS = ("none", "last", "all")

ScheduleId = Annotated[str, typer.Argument(help="The schedule.")]
Tenant = Annotated[str, typer.Option(help="Whose it is; default: the caller's tenant.")]


@schedule.command()
def create(
    schedule_id: Annotated[str, typer.Argument(help="Its name, chosen by you.")],
    cron: Annotated[str, typer.Argument(help='When, for example "0 9 * * 1-5" or @daily.')],
    type: Annotated[str, typer.Argument(help="Kind of work of its tasks.")],
    payload: Annotated[
        str, typer.Argument(help="Text or JSON; @file reads a file, - standard input.")
    ] = "",
    time_zone: Annotated[str, typer.Option(help="For example Europe/Berlin.")] = "UTC",
    overlap: Annotated[
        str, typer.Option(help=f"When the task before still runs: {', '.join(OVERLAPS)}.")
    ] = "skip",
    catch_up: Annotated[
        str, typer.Option(help=f"Of times missed while down, make: {', '.join(CATCH_UPS)}.")
    ] = "last",
    catch_up_window: Annotated[
        float | None, typer.Option(help="Seconds after which a missed time is forgotten.")
    ] = None,
    priority: Annotated[
        int, typer.Option("--priority", "-p", min=0, max=9, help="Higher is sooner.")
    ] = 5,
    tenant: Tenant = "",
    label: Annotated[
        list[str] | None, typer.Option("--label", "-l", help="key=value, for search.")
    ] = None,
    json: Json = False,
) -> None:
    """Make a schedule; the same again changes nothing."""
    _check(overlap, catch_up)
    options: SubmitOptions = {
        "priority": priority,
        "tenant": tenant,
        "labels": labels_of(label or []),
    }

    async def make(client: Client) -> schedule_pb2.Schedule:
        return await client.schedules.create(
            schedule_id,
            cron,
            type,
            as_payload(payload_bytes(payload), ""),
            time_zone=time_zone,
            overlap=cast("Overlap", overlap),
            catch_up=cast("CatchUp", catch_up),
            catch_up_window_s=catch_up_window,
            **options,
        )

    _show(run(make, as_json=json), as_json=json)


@schedule.command()
def get(schedule_id: ScheduleId, tenant: Tenant = "", json: Json = False) -> None:
    """Show a schedule."""
    _show(
        run(lambda client: client.schedules.get(schedule_id, tenant=tenant), as_json=json),
        as_json=json,
    )


@schedule.command("list")
def list_schedules(tenant: Tenant = "", json: Json = False) -> None:
    """List schedules by tenant and id."""

    async def collect(client: Client) -> list[schedule_pb2.Schedule]:
        return [each async for each in client.schedules.list(tenant=tenant)]

    found = run(collect, as_json=json)
    if json:
        for each in found:
            print_json(each)
        return
    if not found:
        console.print("There is no schedule. `podium schedule create NAME CRON TYPE` makes one.")
        return
    rows = [
        (
            plain(each.schedule_id),
            plain(each.tenant),
            plain(f"{each.cron} {each.time_zone}"),
            plain(each.spec.type),
            "paused" if each.paused else shown.moment(each.next_time),
            f"{each.task_count:,}",
        )
        for each in found
    ]
    names = ["schedule", "tenant", "when", "type", "next", "made"]
    console.print(shown.table(names, rows, cut="when"))


@schedule.command()
def update(
    schedule_id: ScheduleId,
    cron: Annotated[str, typer.Option(help="Another expression.")] = "",
    type: Annotated[str, typer.Option("--type", "-t", help="Another kind of work.")] = "",
    payload: Annotated[
        str | None, typer.Option(help="Another payload: text or JSON, @file, - for stdin.")
    ] = None,
    time_zone: Annotated[str, typer.Option(help="Another zone, for example Europe/Berlin.")] = "",
    overlap: Annotated[str, typer.Option(help=f"One of: {', '.join(OVERLAPS)}.")] = "",
    catch_up: Annotated[str, typer.Option(help=f"One of: {', '.join(CATCH_UPS)}.")] = "",
    catch_up_window: Annotated[
        float | None, typer.Option(help="Seconds after which a missed time is forgotten.")
    ] = None,
    priority: Annotated[
        int | None, typer.Option("--priority", "-p", min=0, max=9, help="Higher is sooner.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", "-l", help="key=value, for search; replaces all that it had."),
    ] = None,
    tenant: Tenant = "",
    json: Json = False,
) -> None:
    """Change a schedule in place; what is not given stays, and so does what it has done."""
    _check(overlap, catch_up)
    options: SubmitOptions = {"tenant": tenant}
    if priority is not None:
        options["priority"] = priority
    if label:
        options["labels"] = labels_of(label)

    async def change(client: Client) -> schedule_pb2.Schedule:
        return await client.schedules.update(
            schedule_id,
            cron=cron,
            task_type=type,
            payload=... if payload is None else as_payload(payload_bytes(payload), ""),
            time_zone=time_zone,
            overlap=cast("Overlap", overlap) if overlap else None,
            catch_up=cast("CatchUp", catch_up) if catch_up else None,
            catch_up_window_s=catch_up_window,
            **options,
        )

    _show(run(change, as_json=json), as_json=json)


@schedule.command()
def trigger(schedule_id: ScheduleId, tenant: Tenant = "", json: Json = False) -> None:
    """Make a task of a schedule at once; when it is due next stays."""
    task_id = run(lambda client: client.schedules.trigger(schedule_id, tenant=tenant), as_json=json)
    if json:
        print_json({"taskId": task_id})
    else:
        console.print(task_id)


@schedule.command()
def pause(schedule_id: ScheduleId, tenant: Tenant = "", json: Json = False) -> None:
    """Let a schedule make no tasks until it is resumed."""
    _show(
        run(lambda client: client.schedules.pause(schedule_id, tenant=tenant), as_json=json),
        as_json=json,
    )


@schedule.command()
def resume(schedule_id: ScheduleId, tenant: Tenant = "", json: Json = False) -> None:
    """Let a schedule go on; what was due meanwhile is not made up for."""
    _show(
        run(lambda client: client.schedules.resume(schedule_id, tenant=tenant), as_json=json),
        as_json=json,
    )


@schedule.command()
def delete(schedule_id: ScheduleId, tenant: Tenant = "", json: Json = False) -> None:
    """Delete a schedule; its tasks go on."""
    run(lambda client: client.schedules.delete(schedule_id, tenant=tenant), as_json=json)
    if json:
        print_json({"deleted": schedule_id})
    else:
        console.print(f"{plain(schedule_id)} is deleted")


def _check(overlap: str, catch_up: str) -> None:
    if overlap not in (*OVERLAPS, ""):
        wrong_usage(f"--overlap is one of {', '.join(OVERLAPS)}")
    if catch_up not in (*CATCH_UPS, ""):
        wrong_usage(f"--catch-up is one of {', '.join(CATCH_UPS)}")


def _show(found: schedule_pb2.Schedule, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    overlap = schedule_pb2.Schedule.Overlap.Name(found.overlap).removeprefix("OVERLAP_").lower()
    facts = [
        ("schedule", plain(found.schedule_id)),
        ("tenant", plain(found.tenant)),
        ("when", plain(f"{found.cron} {found.time_zone}")),
        ("type", plain(found.spec.type)),
        ("overlap", overlap),
        ("next", "paused" if found.paused else shown.moment(found.next_time)),
        ("made", f"{found.task_count:,}, left out {found.skip_count:,}"),
        ("last task", found.last_task_id),
        ("open", ", ".join(found.open_task_ids)),
    ]
    grid = Table.grid(padding=(0, 2))
    for name, value in facts:
        if value:
            grid.add_row(f"[dim]{name}[/]", value)
    console.print(grid)
