"""`make bench-agent`: what a task costs the process of an agent, with the SDK and without.

A router made of the stubs keeps every slot filled and does nothing else; the agents count words.
The figure is the CPU time of the agent's process, so what the router costs is no part of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import grpc.aio
from rich.console import Console
from rich.table import Table

from podium.sdk.agent import Agent
from podium.sdk.host import AgentHost, run_until_signal
from podium.v1 import routing_pb2, routing_pb2_grpc, session_pb2, task_pb2
from tests.bench import machine
from tests.support.processes import ROOT

SPEC = task_pb2.TaskSpec(type="text.count", payload={"data": b"three words here"})
SPEC.payload.content_type = "text/plain"


class Make(NamedTuple):
    """An agent to be measured."""

    command: tuple[str, ...]
    slots: int


MAKES = {
    "stubs only, 4 slots": Make(("examples/stubs_agent/agent.py",), 4),
    "SDK, 4 slots": Make(("-m", "tests.bench.handlers", "--agent", "4"), 4),
    "SDK, 256 slots": Make(("-m", "tests.bench.handlers", "--agent", "256"), 256),
    "SDK in threads, 4 slots": Make(("-m", "tests.bench.handlers", "--agent", "4", "--plain"), 4),
}


class Pump(routing_pb2_grpc.RoutingServiceServicer):
    """Gives its one agent a task for each slot, and another for each result."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._given = 0
        self.done = 0

    async def OpenSession(
        self, requests: AsyncIterator[routing_pb2.OpenSessionRequest], context: Any
    ) -> AsyncIterator[routing_pb2.OpenSessionResponse]:
        async for request in requests:
            response = routing_pb2.OpenSessionResponse()
            for frame in request.frames:
                self._answer(frame, response)
            if response.frames:
                yield response

    def _answer(self, frame: Any, response: routing_pb2.OpenSessionResponse) -> None:
        kind, add, agent_id = frame.WhichOneof("frame"), response.frames.add, frame.agent_id
        if kind == "hello":
            ready = add(agent_id=agent_id).ready
            ready.renew_interval.seconds = ready.heartbeat_interval.seconds = 10
        elif kind == "result":
            self.done += 1
            add(agent_id=agent_id).result_ack.lease.CopyFrom(frame.result.lease)
        for _ in range(self._slots if kind == "hello" else int(kind == "result")):
            self._given += 1
            assign = session_pb2.Assign(task_id=f"t{self._given}", lease_epoch=self._given)
            assign.attempt = 1
            assign.spec.CopyFrom(SPEC)
            add(agent_id=agent_id, assign=assign)


async def cost_us(make: Make, tasks: int) -> float:
    """Runs an agent in a process of its own and returns its CPU time a task, in microseconds."""
    pump = Pump(make.slots)
    server = grpc.aio.server()
    routing_pb2_grpc.add_RoutingServiceServicer_to_server(pump, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    environ = {
        **os.environ,
        "PODIUM_ROUTING_ADDRESS": f"127.0.0.1:{port}",
        "PODIUM_OTLP_ENDPOINT": "off",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'clients' / 'python'}",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, *make.command, cwd=ROOT, env=environ
    )
    try:
        await _until(pump, tasks // 10, process)
        begun, before_s = pump.done, machine.cpu_seconds(process.pid)
        await _until(pump, begun + tasks, process)
        used_s = machine.cpu_seconds(process.pid) - before_s
        return used_s / (pump.done - begun) * 1e6
    finally:
        process.kill()
        await process.wait()
        await server.stop(0)


async def _until(pump: Pump, done: int, process: asyncio.subprocess.Process) -> None:
    while pump.done < done:
        if process.returncode is not None:
            raise SystemExit(f"the agent ended with {process.returncode}")
        await asyncio.sleep(0.01)


async def measure(tasks: int, repeats: int) -> dict[str, float]:
    """Returns the CPU microseconds a task of each make: the median of some runs, in turn."""
    runs: dict[str, list[float]] = {name: [] for name in MAKES}
    for _ in range(repeats):
        for name, make in MAKES.items():
            runs[name].append(await cost_us(make, tasks))
    return {name: statistics.median(each) for name, each in runs.items()}


def agent(slots: int, *, plain: bool) -> None:
    """Is an agent that counts words."""
    counter = Agent("wordy", agent_id="wordy", capacity=slots)

    async def count(text: str) -> int:
        return len(text.split())

    def count_plainly(text: str) -> int:
        return len(text.split())

    counter.handles("text.count")(count_plainly if plain else count)
    run_until_signal(AgentHost([counter]))


def main() -> None:
    """Measures, or is the agent that is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agent", type=int, default=0, help="be an agent with so many slots")
    parser.add_argument("--plain", action="store_true", help="of plain functions, in threads")
    parser.add_argument("--tasks", type=int, default=10_000, help="tasks a run")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each")
    parser.add_argument("--json", action="store_true", help="for programs")
    given = parser.parse_args()
    if given.agent:
        agent(given.agent, plain=given.plain)
        return
    figures = asyncio.run(measure(given.tasks, given.repeats))
    if given.json:
        print(json.dumps(figures))
        return
    console = Console()
    console.print(" · ".join(machine.description().values()))
    table = Table("agent", "CPU µs a task", "of stubs only", box=None)
    least = figures["stubs only, 4 slots"]
    for name, cost in figures.items():
        table.add_row(name, f"{cost:,.0f}", f"{cost / least:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
