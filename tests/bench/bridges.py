"""One Edge and nothing else, or next to nothing, behind it: what its connections cost."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.bench.machine import memory_mb
from tests.bench.rows import Row
from tests.support.ports import free_port

SUBPROTOCOL = "podium.v1.json"
ROUNDS = 3
COUNTS = (100, 1_000)
IDLE = 5_000
NOBODY = "127.0.0.1:1"
start_s = 30.0


@dataclass
class Server:
    """A server that visitors connect to."""

    pid: int
    port: int
    subprotocol: str
    said: list[tuple[float, str]] = field(default_factory=list)
    """Lines of its log, and when by the monotonic clock they came."""

    def visit(self, what: str, **options: Any) -> dict[str, Any]:
        """Let a process of visitors measure something, and return what it found."""
        done = subprocess.run(
            self.command(what, **options), stdout=subprocess.PIPE, text=True, check=True
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def command(self, what: str, **options: Any) -> list[str]:
        """Return how a process of visitors is started."""
        asked = {"server": self.pid, "subprotocol": self.subprotocol, **options}
        flags = [text for name, value in asked.items() for text in (f"--{name}", str(value))]
        return [sys.executable, "-m", "tests.bench.visitors", str(self.port), what, *flags]


def messages(scale: float) -> Sequence[Row]:
    """Measure CPU time of a message and its round trip, bridge and echo by turns."""
    rows: list[Row] = []
    with bridge() as podium, echo() as bare:
        for count in COUNTS:
            cpu_us: dict[str, list[float]] = {"bridge": [], "echo": []}
            rates: dict[str, list[float]] = {"bridge": [], "echo": []}
            for _ in range(ROUNDS):
                for name, server in (("bridge", podium), ("echo", bare)):
                    found = server.visit("saturate", count=count, seconds=4 * scale)
                    cpu_us[name].append(found["cpu_s"] / found["count"] * 1e6)
                    rates[name].append(found["count"] / found["seconds"])
            mine, theirs = (statistics.median(cpu_us[name]) for name in ("bridge", "echo"))
            at = f"{count:,} connections: "
            rate = statistics.median(rates["bridge"])
            bare_rate = statistics.median(rates["echo"])
            rows += [
                Row(f"{at}CPU of a message", mine, "us", note=f"the bare echo {theirs:.1f}"),
                Row(f"{at}the same, as a ratio", mine / theirs, "", most=2.0),
                Row(f"{at}messages at most", rate, "/s", note=f"the bare echo {bare_rate:,.0f}"),
                *_round_trip(at, podium, bare, count, scale),
            ]
    return rows


def _round_trip(at: str, podium: Server, bare: Server, count: int, scale: float) -> list[Row]:
    """Measure the round trip when 1,000 messages a second come by turns over all connections."""
    mine, theirs = (
        each.visit("pace", count=count, rate=1_000, seconds=6 * scale) for each in (podium, bare)
    )
    return [
        Row(
            f"{at}round trip at 1,000/s, p{share}",
            mine[f"p{share}_ms"],
            "ms",
            note=f"the bare echo {theirs[f'p{share}_ms']:.2f}",
        )
        for share in (50, 99)
    ]


def memory(scale: float) -> Sequence[Row]:
    """Measure what the process grows by for each connection that is open and says nothing."""
    count = max(100, int(IDLE * scale))
    with bridge() as podium:
        podium.visit("pace", count=10, seconds=1)  # what is made on first use is no connection's
        before_mb = memory_mb(podium.pid)
        command = podium.command("idle", count=count)
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as visitors:
            assert visitors.stdout is not None
            assert visitors.stdout.readline() == "open\n"
            after_mb = memory_mb(podium.pid)
            visitors.communicate("\n")
    kb = (after_mb - before_mb) * 1024 / count
    return [
        Row(f"{count:,} idle connections: each", kb, "KB", most=30.0),
        Row(f"{count:,} idle connections: the process", after_mb, "MB"),
    ]


def stalled(scale: float) -> Sequence[Row]:
    """Compare the others' round trips while one reads large events, and while it does not."""
    count, seconds = max(10, int(1_000 * scale)), 14.0
    found: dict[str, list[dict[str, Any]]] = {"reading": [], "stalled": []}
    cuts_s: list[float] = []
    with feeder() as scheduler, bridge(scheduler) as podium:
        podium.visit("reading", count=count - 1, seconds=2)
        for _ in range(ROUNDS):
            for name, runs in found.items():
                began_s = time.monotonic()
                runs.append(podium.visit(name, count=count - 1, seconds=seconds))
                cuts_s += [
                    at_s - runs[-1]["began_s"]
                    for at_s, line in podium.said
                    if at_s > began_s and "does not read" in line
                ]
    reading, still = (
        {share: statistics.median(run[f"p{share}_ms"] for run in runs) for share in (50, 99)}
        for runs in found.values()
    )
    unanswered = sum(run["asked"] - run["answered"] for run in found["stalled"])
    return [
        Row("others' p99 while it reads", reading[99], "ms", note=f"p50 {reading[50]:.2f}"),
        Row("others' p99 while it stands still", still[99], "ms", note=f"p50 {still[50]:.2f}"),
        Row("the same, as a ratio", still[99] / reading[99], "", most=1.1),
        Row("messages of others without an answer", unanswered, "", most=0),
        Row("stalled readers that were cut off", len(cuts_s), "", least=ROUNDS),
        Row("the slowest after", max(cuts_s, default=float("inf")), "s", most=10.0),
    ]


@contextmanager
def bridge(scheduler: str = NOBODY) -> Iterator[Server]:
    """Run Edge as a process, with no limit in the way of what is measured."""
    port = free_port()
    environ = {
        "PODIUM_EDGE_PORT": str(port),
        "PODIUM_EDGE_CONNECTIONS_MAX": "20000",
        "PODIUM_EDGE_CONNECTIONS_PER_CALLER_MAX": "20000",
        "PODIUM_EDGE_MESSAGES_PER_S": "100000",
        "PODIUM_LOG_LEVEL": "warning",
        "PODIUM_TASK_SCHEDULER_ADDRESS": scheduler,
        "PODIUM_AGENT_REGISTRY_ADDRESS": NOBODY,
        "PODIUM_ROUTING_ADDRESS": NOBODY,
        "PODIUM_ANALYTICS_ADDRESS": NOBODY,
    }
    arguments = [sys.executable, "-m", "services.edge"]
    with _running(arguments, environ=environ, stderr=subprocess.PIPE) as process:
        server = Server(process.pid, port, SUBPROTOCOL)
        threading.Thread(target=_note, args=(process.stderr, server.said), daemon=True).start()
        _until_listening(port)
        yield server


@contextmanager
def echo() -> Iterator[Server]:
    """Run the bare echo as a process."""
    with _running([sys.executable, "-m", "tests.bench.echo"], stdout=subprocess.PIPE) as process:
        yield Server(process.pid, int(process.stdout.readline()), "")


@contextmanager
def feeder() -> Iterator[str]:
    """Run what tells large events to whoever watches; yields its address."""
    with _running([sys.executable, "-m", "tests.bench.feeder"], stdout=subprocess.PIPE) as process:
        yield f"127.0.0.1:{int(process.stdout.readline())}"


@contextmanager
def _running(
    arguments: list[str], environ: dict[str, str] | None = None, **streams: Any
) -> Iterator[Any]:
    """Run a process until the block ends."""
    everything = {**os.environ, **(environ or {})}
    with subprocess.Popen(arguments, text=True, env=everything, **streams) as process:
        try:
            yield process
        finally:
            process.terminate()


def _until_listening(port: int) -> None:
    """Wait until a server takes connections; raise OSError when it does not come up."""
    deadline_s = time.monotonic() + start_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.05)


def _note(lines: Any, said: list[tuple[float, str]]) -> None:
    for line in lines:
        said.append((time.monotonic(), line))
