"""Every service as who operates it sees it: what it says of settings and peers, and its end."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from podium.sdk.agent import Agent
from podium.sdk.client import Client
from podium.sdk.host import AgentHost
from podium.sdk.settings import Settings
from services.suite import (
    DEFAULT_PORTS,
    SERVICES,
    Suite,
    SuiteFailed,
    chosen_ports,
    prepared,
    started,
)
from tests.support.ports import free_port, ports_of
from tests.support.processes import Processes
from tests.support.waiting import eventually

NOWHERE = {f"PODIUM_{name.upper()}_ADDRESS": "127.0.0.1:1" for name in SERVICES}
QUIET = {"PODIUM_METRICS_PORT_OFFSET": "0", "PODIUM_OTLP_ENDPOINT": "off"}

PEERS = {
    "routing": ("TASK_SCHEDULER", "AGENT_REGISTRY", "ML_ROUTER"),
    "ml_router": ("TASK_SCHEDULER",),
    "analytics": ("TASK_SCHEDULER",),
    "edge": ("TASK_SCHEDULER",),
}


@pytest.mark.parametrize("name", SERVICES)
def test_bad_settings_of_a_service_are_all_named_and_end_with_2(
    name: str, processes: Processes
) -> None:
    port = f"PODIUM_{name.upper()}_PORT"
    bad = {port: "99999", "PODIUM_PROFILE": "staging", "PODIUM_DRAIN_S": "soon"}
    process = processes.python("-m", f"services.{name}", environ=bad)

    assert process.wait() == 2
    assert {line.split("=")[0] for line in process.output().splitlines()} == bad.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_whose_peers_are_away_says_what_to_do_and_ends_with_0(
    name: str, processes: Processes, tmp_path: Path
) -> None:
    environ = {
        **NOWHERE,
        **QUIET,
        "PODIUM_DATA_DIR": str(tmp_path),
        f"PODIUM_{name.upper()}_PORT": str(free_port()),
    }
    process = processes.python("-m", f"services.{name}", environ=environ)
    process.wait_for(f"podium {name} listening on")
    for peer in PEERS.get(name, ()):
        process.wait_for(f"PODIUM_{peer}_ADDRESS")

    assert process.stop() == 0
    assert "Traceback" not in process.output()


async def test_the_suite_in_one_process_serves_agents_and_clients_and_ends_with_0(
    processes: Processes, tmp_path: Path
) -> None:
    suite = prepared(data_dir=tmp_path / "data", ports=ports_of(SERVICES), environ=QUIET)
    process = processes.python("-m", "services", environ=suite.environ)
    settings = Settings.from_environment(suite.environ)
    agent = Agent("echo", agent_id="echo-1")

    @agent.handles("echo")
    async def echo(payload: str) -> str:
        return payload

    await asyncio.to_thread(process.wait_for, "podium routing is ready")
    async with (
        AgentHost([agent], settings=settings, inline=True),
        Client(settings, inline=True) as client,
    ):
        assert await (await client.submit("echo", "hello")).result(20) == "hello"

    assert await asyncio.to_thread(process.stop) == 0
    said = process.output()
    assert "Traceback" not in said
    # It ended by itself, in order: nothing held a stream until it was cut.
    assert "Cancelling all calls" not in said


def test_bad_settings_of_the_suite_are_all_named_before_anything_starts(
    processes: Processes, tmp_path: Path
) -> None:
    bad = {"PODIUM_EDGE_PORT": "x", "PODIUM_ML_ROUTER_PORT": "y", "PODIUM_LEASE_TTL_S": "z"}
    environ = {**bad, "PODIUM_DATA_DIR": str(tmp_path / "data")}
    process = processes.python("-m", "services", "--processes", environ=environ)

    assert process.wait() == 2
    assert {line.split("=")[0] for line in process.output().splitlines()} == bad.keys()
    assert not (tmp_path / "data").exists()


def test_help_of_the_suite_tells_its_choice_and_each_setting_once(processes: Processes) -> None:
    process = processes.python("-m", "services", "--help")

    assert process.wait() == 0
    lines = [line.strip() for line in process.output().splitlines()]
    named = [line for line in lines if line.startswith("PODIUM_") and " " not in line]
    assert "--processes" in process.output()
    assert len(named) == len(set(named)) > 40


def test_the_suite_takes_the_ports_it_is_told() -> None:
    chosen = chosen_ports({"PODIUM_EDGE_PORT": " 8800 ", "PODIUM_ROUTING_PORT": ""})

    assert chosen == {**DEFAULT_PORTS, "edge": 8800}


async def test_a_suite_that_cannot_start_tells_why_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "task_scheduler.db").write_bytes(b"no database" * 100)
    told: list[str] = []

    with pytest.raises(SuiteFailed, match=r"(?s)task_scheduler exited with 1.*cannot be opened"):
        async with started(
            data_dir=tmp_path / "data",
            ports=ports_of(["task_scheduler"]),
            services=("task_scheduler",),
            report=lambda name, what: told.append(f"{name} {what}"),
        ):
            pass
    assert told == []


async def test_every_service_comes_back_from_a_kill_and_ends_with_0(tmp_path: Path) -> None:
    async with started(data_dir=tmp_path, ports=ports_of(SERVICES), environ=QUIET) as suite:
        for name in SERVICES:
            await suite.restart(name, signal.SIGKILL)
        async with Client(Settings.from_environment(suite.environ), inline=True) as client:
            task = await client.submit("nobody-does-this")
            await task.cancel()

        assert {name: await suite.end(name) for name in reversed(SERVICES)} == dict.fromkeys(
            SERVICES, 0
        )


async def test_a_service_that_dies_is_started_again(tmp_path: Path) -> None:
    told: list[str] = []
    async with started(
        data_dir=tmp_path,
        ports=ports_of(["agent_registry"]),
        environ=QUIET,
        services=("agent_registry",),
        report=lambda name, what: told.append(what),
    ) as suite:
        suite.processes["agent_registry"].kill()
        await eventually(lambda: suite.restarts["agent_registry"] == 1)
        await eventually(lambda: up(suite))
        await suite.until_ready("agent_registry")

    assert "ended with -9, starts again" in told


def up(suite: Suite) -> bool:
    process = suite.processes["agent_registry"]
    return process.returncode is None
