"""`podium sim fleet`: simulated agents under load, live."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table

from podium.cli.output import FAILED, Json, console, errors, print_json, run_loop, wrong_usage
from podium.sdk.settings import Settings
from podium.sim.crew import MIXED, Plan
from podium.sim.fleet import Report, Snapshot, experiment
from podium.sim.profiles import PROFILES, SERVICE_TIMES, Behaviour

app = typer.Typer()
sim_app = typer.Typer(help="Simulate agents and load.", no_args_is_help=True)
app.add_typer(sim_app, name="sim")

HISTORY_LEN = 12


@sim_app.callback()
def sim() -> None:
    """Simulate agents and load."""


@sim_app.command()
def fleet(
    agents: Annotated[int, typer.Option(min=1, help="Simulated agents.")] = 100,
    rate: Annotated[float, typer.Option(min=0.1, help="Tasks a second.")] = 100.0,
    duration: Annotated[float, typer.Option(min=0.1, help="Seconds of load.")] = 20.0,
    hosts: Annotated[int, typer.Option(min=1, help="Processes that host the agents.")] = 2,
    capacity: Annotated[int, typer.Option(min=1, help="Tasks an agent works on at once.")] = 4,
    profile: Annotated[str, typer.Option(help=f"{MIXED}, {', '.join(PROFILES)}.")] = MIXED,
    types: Annotated[str, typer.Option(help="Task types, with commas.")] = ",".join(SERVICE_TIMES),
    own_streams: Annotated[bool, typer.Option(help="A stream for each agent.")] = False,
    failure_rate: Annotated[float, typer.Option(min=0, max=1, help="Attempts that fail.")] = 0.0,
    never_ack_rate: Annotated[float, typer.Option(min=0, max=1, help="Ignored assignments.")] = 0.0,
    disconnect_every: Annotated[float, typer.Option(help="Seconds between lost streams.")] = 0.0,
    freeze_every: Annotated[float, typer.Option(help="Seconds between frozen hosts.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 1,
    json: Json = False,
) -> None:
    """Run simulated agents and submit load to them; shows throughput and latency as they are."""
    if profile not in (MIXED, *PROFILES):
        wrong_usage(f"no profile is called {profile!r}; there are {MIXED}, {', '.join(PROFILES)}")
    plan = Plan(
        agent_count=agents,
        capacity=capacity,
        profile=profile,
        types=types.split(","),
        seed=seed,
        behaviour=Behaviour(
            failure_rate=failure_rate,
            never_ack_rate=never_ack_rate,
            disconnect_every_s=disconnect_every,
            freeze_every_s=freeze_every,
        ),
    )
    history: list[Snapshot] = []
    with Live(console=errors, auto_refresh=False, transient=True) as live:

        def watch(snapshot: Snapshot) -> None:
            history.append(snapshot)
            if not json:
                live.update(_live_table(history[-HISTORY_LEN:], rate), refresh=True)

        report = run_loop(
            lambda: experiment(
                plan,
                settings=Settings.from_environment(),
                rate=rate,
                duration_s=duration,
                host_count=hosts,
                own_streams=own_streams,
                watch=watch,
            ),
            as_json=json,
        )
    if json:
        print_json(dataclasses.asdict(report))
    else:
        console.print(_report_table(report))
    if report.unfinished:
        raise typer.Exit(FAILED)


def _live_table(history: list[Snapshot], rate: float) -> Table:
    table = Table(
        "time s", "tasks/s", "open", "completed", "failed", "refused", "p50 ms", "p95", "p99",
        title=f"{rate:g} tasks a second", box=None,
    )  # fmt: skip
    for snapshot in history:
        table.add_row(
            f"{snapshot.elapsed_s:.1f}",
            f"{snapshot.rate:,.0f}",
            f"{snapshot.open_count:,}",
            f"{snapshot.completed_count:,}",
            f"{snapshot.failed_count:,}",
            f"{snapshot.refused_count:,}",
            *(f"{value * 1e3:.1f}" for value in snapshot.latencies_s),
        )
    return table


def _report_table(report: Report) -> Table:
    table = Table("", "", box=None, show_header=False)
    rows = {
        "agents": f"{report.agents} in {report.hosts} processes",
        "offered": f"{report.target_rate:g} tasks/s",
        "throughput": f"[bold]{report.throughput:,.1f} tasks/s[/] over {report.duration_s:.1f} s",
        "completed": f"{report.completed:,} of {report.submitted:,}",
        "failed": f"{report.failed:,}",
        "refused": f"{report.refused:,} {report.refusals or ''}",
        "unfinished": f"{report.unfinished:,}",
        "end to end": (
            f"p50 {report.latency_p50_ms} ms · p95 {report.latency_p95_ms} ms ·"
            f" p99 {report.latency_p99_ms} ms · max {report.latency_max_ms} ms"
        ),
    }
    if report.assignment_p50_ms is not None:
        rows["assignment"] = (
            f"p50 {report.assignment_p50_ms} ms · p99 {report.assignment_p99_ms} ms"
        )
    for name, value in rows.items():
        table.add_row(f"[dim]{name}[/]", value)
    return table
