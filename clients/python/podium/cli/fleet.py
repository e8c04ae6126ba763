"""`podium agents`, `who` and `stats`: the fleet and the queue as they are now, and who may work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from podium.cli import lack, shown
from podium.cli.output import Json, console, plain, print_json, run, wrong_usage
from podium.sdk.client import Client
from podium.sdk.versions import plain as without_version
from podium.v1 import agent_pb2, agent_registry_pb2, task_scheduler_pb2

app = typer.Typer()

_STATUS_COLOURS = {
    agent_pb2.Agent.STATUS_IDLE: "green",
    agent_pb2.Agent.STATUS_BUSY: "cyan",
    agent_pb2.Agent.STATUS_DRAINING: "yellow",
    agent_pb2.Agent.STATUS_QUARANTINED: "magenta",
    agent_pb2.Agent.STATUS_SUSPECT: "yellow",
    agent_pb2.Agent.STATUS_OFFLINE: "red",
}
CAPABILITIES_LEN_MAX = 40
ROWS_LEN_MAX = 20
"""Tenants and keys that are shown to people; --json has them all."""


agents_app = typer.Typer()
app.add_typer(agents_app, name="agents")

Reason = Annotated[str, typer.Option(help="Why, for people.")]
AgentIds = Annotated[list[str], typer.Argument(help="Agents.", metavar="AGENT_ID...")]


@agents_app.callback(invoke_without_command=True)
def agents(
    context: typer.Context,
    capability: Annotated[
        list[str] | None,
        typer.Option("--capability", "-c", help="Only who can do this: NAME[@LEAST_VERSION]."),
    ] = None,
    idle: Annotated[bool, typer.Option("--idle", help="Only who takes work now.")] = False,
    json: Json = False,
) -> None:
    """List agents with status, load and success; or drain, quarantine or release some."""
    if context.invoked_subcommand:
        return
    wanted = agent_registry_pb2.AgentFilter(capabilities=capability or [], idle_only=idle)
    found = run(lambda client: client.agents(wanted), as_json=json)
    if json:
        for agent in found:
            print_json(agent)
        return
    if not found:
        console.print("No agent matches. `podium agent run MODULE:AGENT` starts one.")
        return
    names = ["agent", "status", "load", "breaker", "success", "done", "heard", "can do"]
    console.print(shown.table(names, map(_cells, found), cut="can do"))


@agents_app.command()
def drain(
    agent_ids: Annotated[
        list[str] | None, typer.Argument(help="Agents.", metavar="[AGENT_ID]...")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", "-l", help="key=value; all agents that have all of these."),
    ] = None,
    reason: Reason = "",
    json: Json = False,
) -> None:
    """Let agents finish what they have and give them nothing new; only a new start ends it."""
    if bool(agent_ids) == bool(label):
        wrong_usage("give agent ids, or --label; not both, not neither")
    wanted = agent_registry_pb2.AgentFilter(labels=dict(map(_label, label or ())))

    async def work(client: Client) -> list[str]:
        if not agent_ids:
            return list(await client.fleet.drain(filter=wanted, reason=reason))
        drained: list[str] = []
        for agent_id in agent_ids:
            drained += await client.fleet.drain(agent_id, reason=reason)
        return drained

    _told(run(work, as_json=json), "draining", as_json=json)


@agents_app.command()
def quarantine(agent_ids: AgentIds, reason: Reason = "", json: Json = False) -> None:
    """Keep agents from new work until they are released, also when they start again."""

    async def work(client: Client) -> list[str]:
        return [(await client.fleet.quarantine(each, reason=reason)).agent_id for each in agent_ids]

    _told(run(work, as_json=json), "in quarantine", as_json=json)


@agents_app.command()
def release(agent_ids: AgentIds, json: Json = False) -> None:
    """End the quarantine of agents, and close their breakers."""

    async def work(client: Client) -> list[str]:
        return [(await client.fleet.release(each)).agent_id for each in agent_ids]

    _told(run(work, as_json=json), "released", as_json=json)


def _label(pair: str) -> tuple[str, str]:
    key, found, value = pair.partition("=")
    if not found or not key:
        wrong_usage(f"a label is key=value, not {plain(pair)!r}")
    return key, value


def _told(agent_ids: Sequence[str], done: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"agentIds": list(agent_ids)})
        return
    for agent_id in agent_ids:
        console.print(f"{plain(agent_id)}: {done}")
    if not agent_ids:
        console.print("No agent matches.")


@app.command()
def who(
    capabilities: Annotated[
        list[str], typer.Argument(help="What it must be able to do: NAME[@LEAST_VERSION].")
    ],
    task_type: Annotated[
        str, typer.Option("--type", help="Type of the task; else the first capability.")
    ] = "",
    json: Json = False,
) -> None:
    """Tell who can do something now, and how long a task would wait."""

    async def ask(client: Client) -> tuple[int, agent_registry_pb2.FindAgentsResponse, list[str]]:
        counted = await client.queue_stats()
        asked = set(map(without_version, capabilities))
        # Those that a router has already come first, too; a version names no other agents.
        ahead = sum(
            each.count + each.granted_count
            for each in counted.requirements
            if set(map(without_version, each.required_capabilities)) == asked
        )
        found = await client.find_agents(*capabilities, task_type=task_type, ahead_count=ahead)
        if found.capable_count or json:
            return ahead, found, []
        return ahead, found, list(lack.reasons(capabilities, await client.agents()))

    ahead, found, lacking = run(ask, as_json=json)
    if json:
        print_json(found)
        return
    if not found.capable_count:
        for line in lacking:
            console.print(line)
        return
    names = ["agent", "load", "wait", "takes", "success", "versions"]
    cells = (
        _candidate_cells(each, set(map(without_version, capabilities))) for each in found.candidates
    )
    console.print(shown.table(names, cells, cut="versions"))
    wait = _expected(found, "expected_wait")
    console.print(
        f"{found.ready_count} of {found.capable_count} have a free slot, {ahead:,} tasks wait;"
        f" the next one waits {wait}."
    )


def _candidate_cells(candidate: agent_registry_pb2.Candidate, asked: set[str]) -> list[str]:
    agent = candidate.agent
    versions = [
        f"{each.name} {each.version or '-'} ({each.proficiency:.0%})"
        for each in agent.capabilities
        if each.name in asked
    ]
    return [
        plain(agent.agent_id),
        f"{agent.in_flight_count}/{agent.max_concurrency}",
        _expected(candidate, "expected_wait"),
        _expected(candidate, "expected_run_duration"),
        f"{candidate.success_rate:.0%}",
        plain(", ".join(versions)),
    ]


def _expected(
    message: agent_registry_pb2.Candidate | agent_registry_pb2.FindAgentsResponse, field: Any
) -> str:
    if not message.HasField(field):
        return "unknown"
    return shown.seconds(getattr(message, field).ToNanoseconds() / 1e9)


def _cells(agent: agent_pb2.Agent) -> list[str]:
    status = agent_pb2.Agent.Status.Name(agent.status).removeprefix("STATUS_").lower()
    breaker = agent_pb2.Agent.Breaker.Name(agent.breaker).removeprefix("BREAKER_").lower()
    colour = _STATUS_COLOURS.get(agent.status, "default")
    done = sum(each.completed_count for each in agent.statistics)
    tried = done + sum(each.failed_count for each in agent.statistics)
    names = ", ".join(capability.name for capability in agent.capabilities)
    return [
        plain(agent.agent_id),
        f"[{colour}]{status}[/]",
        f"{agent.in_flight_count}/{agent.max_concurrency}",
        breaker if breaker == "closed" else f"[red]{breaker.replace('_', ' ')}[/]",
        f"{done / tried:.0%}" if tried else "",
        str(done),
        shown.age(agent.heartbeat_time),
        plain(names, CAPABILITIES_LEN_MAX),
    ]


@app.command()
def stats(json: Json = False) -> None:
    """Count what waits and runs."""
    counted = run(lambda client: client.queue_stats(), as_json=json)
    if json:
        print_json(counted)
        return
    _print_states(counted)
    if counted.priorities:
        depths = [
            (str(depth.priority), f"{depth.count:,}", shown.span(depth.oldest_age))
            for depth in counted.priorities
        ]
        console.print(shown.table(["priority", "waiting", "oldest"], depths))
    _print_tenants(counted)
    _print_keys(counted)
    for pause in counted.pauses:
        what = " of ".join(
            filter(
                None,
                (
                    pause.type and f"type {plain(pause.type)}",
                    pause.tenant and f"tenant {plain(pause.tenant)}",
                ),
            )
        )
        console.print(f"[yellow]paused: {what}[/] [dim]{plain(pause.reason)}[/]")
    if counted.dead_letters_dropped_count:
        dropped = f"{counted.dead_letters_dropped_count:,} dead letters were dropped"
        console.print(f"[yellow]{dropped} for want of room (PODIUM_DEAD_TASKS_MAX)[/]")
    if counted.log_damage:
        console.print(f"[red]the log is damaged: {plain(counted.log_damage)}[/]")
    stuck = [each for each in counted.requirements if each.count and not each.schedulable]
    for each in stuck:
        needs = plain(", ".join(each.required_capabilities))
        console.print(f"[yellow]{each.count} wait for an agent that can do: {needs}[/]")


def _print_tenants(counted: task_scheduler_pb2.GetQueueStatsResponse) -> None:
    if len(counted.tenants) < 2:
        return
    rows = [
        (
            plain(each.tenant),
            f"{each.weight:g}",
            f"{each.open_count:,}",
            f"{each.waiting_count:,}",
            shown.seconds(each.used_agent_seconds),
        )
        for each in counted.tenants[:ROWS_LEN_MAX]
    ]
    names = ["tenant", "weight", "open", "waiting", "used of agents"]
    console.print(shown.table(names, rows, cut="tenant"))


def _print_keys(counted: task_scheduler_pb2.GetQueueStatsResponse) -> None:
    rows = [
        (
            plain(each.key),
            plain(each.tenant) or "all",
            f"{each.running_count:,} of {_limits(each)}",
            f"{each.waiting_count:,}",
        )
        for each in counted.concurrency_keys[:ROWS_LEN_MAX]
    ]
    if rows:
        console.print(shown.table(["key", "tenant", "running", "waiting"], rows, cut="key"))
    rates = [
        (
            plain(each.key),
            plain(each.tenant) or "all",
            f"{each.started_count:,} of {_limits(each)} in {shown.span(each.period)}",
            f"{each.waiting_count:,}",
        )
        for each in counted.rate_keys[:ROWS_LEN_MAX]
    ]
    if rates:
        console.print(shown.table(["key", "tenant", "started", "waiting"], rows=rates, cut="key"))


def _limits(key: task_scheduler_pb2.ConcurrencyDepth | task_scheduler_pb2.RateDepth) -> str:
    most = max(key.limit, key.limit_max)
    return f"{key.limit:,}" if most == key.limit else f"{key.limit:,} to {most:,}"


def _print_states(counted: task_scheduler_pb2.GetQueueStatsResponse) -> None:
    rows = [(shown.state(each.state), f"{each.count:,}") for each in counted.states]
    console.print(shown.table(["state", "tasks"], rows))
    per_commit = counted.event_count / counted.commit_count if counted.commit_count else 0.0
    console.print(
        f"[dim]routers {counted.router_count} · event {counted.durable_seq:,} is durable ·"
        f" {per_commit:.1f} events a commit[/]"
    )
