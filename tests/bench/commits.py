"""Group commit under an open load of submits: groups, events of each, and what the disk takes.

The scheduler runs in this process, so that its journal can be timed; the client is another one.
Nothing is granted: each submit is one CREATED and one QUEUED event.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import uvloop

from podium.sdk.client import Client
from podium.sdk.settings import Settings
from podium.sdk.specs import build
from services.kernel.clock import SystemClock
from services.kernel.options import dial
from services.kernel.serving import running
from services.task_scheduler import __main__ as service
from services.task_scheduler.adapters import sqlite
from tests.bench.rows import Row
from tests.bench.workload import percentile
from tests.support.waiting import eventually
from tests.task_scheduler.serving import settings

RATES = (1_000, 5_000)
SECONDS = 8.0
SLICE_S = 0.002
"""How often the client submits what has become due."""


class Timed:
    """A connection that tells how long its commits took: the writing, and the fsync."""

    def __init__(self, connection: sqlite3.Connection, commits_s: list[float]) -> None:
        self._connection = connection
        self._commits_s = commits_s

    def execute(self, sql: str, *values: Any) -> Any:
        """Execute a statement."""
        if sql != "COMMIT":
            return self._connection.execute(sql, *values)
        began = time.perf_counter()
        try:
            return self._connection.execute(sql, *values)
        finally:
            self._commits_s.append(time.perf_counter() - began)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@contextmanager
def timed_journal() -> Iterator[list[float]]:
    """Let the service's journal be timed; yields the seconds of each commit."""
    commits_s: list[float] = []

    def connect(path: Path) -> Timed:
        return Timed(sqlite.connect(path), commits_s)

    with patch.object(service, "SqliteJournal", partial(sqlite.SqliteJournal, connect=connect)):
        yield commits_s


def measure(scale: float) -> Sequence[Row]:
    """Measure at each rate."""
    rows: list[Row] = []
    for rate in RATES:
        rows += uvloop.run(_at(rate, max(1.0, SECONDS * scale)))
    return rows


async def _at(rate: int, seconds: float) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, timed_journal() as commits_s:
        chosen, clock = settings(Path(folder)), SystemClock()
        async with running(service.SERVICE, chosen, dial=dial, clock=clock) as served:
            await eventually(lambda: not served.assembled.ready())
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.bench.commits"),
                *(f"127.0.0.1:{served.port}", str(rate), str(seconds)),
                stdout=asyncio.subprocess.PIPE,
            )
            assert process.stdout is not None
            await process.stdout.readline()  # "begin"
            commits_s.clear()
            began = time.perf_counter()
            found = json.loads(await process.stdout.readline())
            took_s = time.perf_counter() - began
            await process.wait()
    name = f"{rate:,}/s"
    groups = len(commits_s)
    commit_ms = [one_s * 1e3 for one_s in commits_s]
    return [
        Row(f"{name}: achieved", found["count"] / took_s, "submits/s", note="each acknowledged"),
        Row(f"{name}: commit groups", groups / took_s, "/s"),
        Row(f"{name}: submits of a group", found["count"] / groups),
        Row(f"{name}: commit with its fsync", percentile(commit_ms, 0.5), "ms"),
        Row(f"{name}: share of the time in commits", sum(commits_s) / took_s),
        Row(f"{name}: submit to durable answer, p50", found["p50_ms"], "ms"),
        Row(f"{name}: the same, p99", found["p99_ms"], "ms"),
    ]


async def submit(address: str, rate: float, seconds: float) -> None:
    """Offer submits at a rate, whatever becomes of them; print what they took."""
    suite = Settings.from_environment({"PODIUM_TASK_SCHEDULER_ADDRESS": address})
    async with Client(suite, inline=True) as client:
        for _ in range(200):
            await client.submit_soon(build("work", b"x" * 64, {}))
        print("begin", flush=True)
        took_ms: list[float] = []
        futures: list[asyncio.Future[Any]] = []
        began, count = time.perf_counter(), 0
        while (passed_s := time.perf_counter() - began) < seconds:
            while count < passed_s * rate:
                due_s = began + count / rate
                future = client.submit_soon(build("work", b"x" * 64, {}))
                future.add_done_callback(
                    lambda _, due_s=due_s: took_ms.append((time.perf_counter() - due_s) * 1e3)
                )
                futures.append(future)
                count += 1
            await asyncio.sleep(SLICE_S)
        await asyncio.gather(*futures)
        p50, p99 = (percentile(took_ms, share) for share in (0.5, 0.99))
        print(json.dumps({"count": count, "p50_ms": p50, "p99_ms": p99}), flush=True)


def main() -> None:
    """Be the client."""
    parser = argparse.ArgumentParser(description=submit.__doc__)
    parser.add_argument("address")
    parser.add_argument("rate", type=float)
    parser.add_argument("seconds", type=float)
    chosen = parser.parse_args()
    uvloop.run(submit(chosen.address, chosen.rate, chosen.seconds))


if __name__ == "__main__":
    main()
