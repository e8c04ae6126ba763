"""`podium pause`, `resume` and `queue`: what holds tasks up, and lets them go on."""

from __future__ import annotations

from typing import Annotated

import typer

from podium.cli.output import Json, console, plain, print_json, run, wrong_usage
from podium.cli.tasks import TaskIds, chosen, tell
from podium.cli.tasks import Type as OnlyType

app = typer.Typer()
queue = typer.Typer(help="Pause all tasks of a type or a tenant, and resume them.")
app.add_typer(queue, name="queue")

Reason = Annotated[str, typer.Option(help="Why, for people.")]
Type = Annotated[str, typer.Option("--type", "-t", help="Tasks of this type.")]
Tenant = Annotated[str, typer.Option(help="Tasks of this tenant.")]


@app.command()
def pause(
    task_ids: TaskIds = None, type: OnlyType = "", reason: Reason = "", json: Json = False
) -> None:
    """Pause tasks by id or by type; what runs is called back without a failure."""
    wanted = chosen(task_ids, type)
    done = run(
        lambda client: client.holds.pause(task_ids or [], filter=wanted, reason=reason),
        as_json=json,
    )
    tell(done, "paused", as_json=json)


@app.command()
def resume(task_ids: TaskIds = None, type: OnlyType = "", json: Json = False) -> None:
    """Let paused tasks go on."""
    wanted = chosen(task_ids, type)
    done = run(lambda client: client.holds.resume(task_ids or [], filter=wanted), as_json=json)
    tell(done, "resumed", as_json=json)


@queue.command("pause")
def pause_queue(
    type: Type = "", tenant: Tenant = "", reason: Reason = "", json: Json = False
) -> None:
    """Start no more tasks of a type, of a tenant, or of both together; what runs goes on."""
    scope = _scope(type, tenant)
    run(
        lambda client: client.holds.pause_queue(task_type=type, tenant=tenant, reason=reason),
        as_json=json,
    )
    _told(scope, "paused", as_json=json)


@queue.command("resume")
def resume_queue(type: Type = "", tenant: Tenant = "", json: Json = False) -> None:
    """End a pause that was begun with the same type and tenant."""
    scope = _scope(type, tenant)
    run(lambda client: client.holds.resume_queue(task_type=type, tenant=tenant), as_json=json)
    _told(scope, "resumed", as_json=json)


@queue.command("list")
def list_pauses(json: Json = False) -> None:
    """Tell which types and tenants are paused."""
    found = run(lambda client: client.queue_stats(), as_json=json).pauses
    for each in found:
        if json:
            print_json(each)
        else:
            why = f" [dim]{plain(each.reason)}[/]" if each.reason else ""
            console.print(f"{_named(each.type, each.tenant)}{why}")
    if not found and not json:
        console.print("Nothing is paused.")


def _scope(type: str, tenant: str) -> str:
    if not type and not tenant:
        wrong_usage("give --type, --tenant or both")
    return _named(type, tenant)


def _named(type: str, tenant: str) -> str:
    parts = [f"type {plain(type)}" if type else "", f"tenant {plain(tenant)}" if tenant else ""]
    return " of ".join(filter(None, parts))


def _told(scope: str, done: str, *, as_json: bool) -> None:
    if as_json:
        print_json({done: scope})
    else:
        console.print(f"{scope}: {done}")
