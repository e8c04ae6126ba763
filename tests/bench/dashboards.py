"""Dashboards before a suite at work: what following costs, how soon a page shows something."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop
from playwright.async_api import Browser, async_playwright

from podium.sdk.client import Client
from podium.sdk.settings import Settings
from podium.sdk.specs import build
from podium.v1.task_pb2 import Task
from services import suite
from tests.bench.bridges import SUBPROTOCOL, Server
from tests.bench.machine import cpu_seconds
from tests.bench.rows import Row
from tests.bench.workload import AGENTS, HOSTS, PAYLOAD, TYPES

DASHBOARDS = 100
TERMINAL = {Task.STATE_COMPLETED, Task.STATE_FAILED}
RATE = 1_000
LOADS = 5
OPENING_S = 4.0
SETTLE_S_MAX = 30.0
SLICE_S = 0.002
"""How often what has become due is submitted."""
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]

# Notes when the first figure of the fleet stands on the page, a frame later at most.
WATCH_FOR_FIGURES = """
window.figures = new Promise((settle) => {
  const look = () => {
    const shown = [...document.querySelectorAll(".states a .number")];
    if (shown.some(({ textContent }) => /[1-9]/.test(textContent))) settle(performance.now());
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
});
"""
TOLD = """async () => {
  const figures = await window.figures;
  const painted = () => performance.getEntriesByName("first-contentful-paint")[0];
  while (!painted()) await new Promise(requestAnimationFrame);
  const loaded = ["navigation", "resource"].flatMap((type) => performance.getEntriesByType(type));
  const bytes = loaded.reduce((sum, each) => sum + each.encodedBodySize, 0);
  return { paint: painted().startTime, figures, bytes };
}"""


def fan_out(scale: float) -> Sequence[Row]:
    """Offer tasks at a rate while dashboards follow the fleet."""
    return uvloop.run(_fan_out(max(5.0, 20.0 * scale)))


async def _fan_out(seconds: float) -> list[Row]:
    async with _fleet() as running, Client(_settings(running), inline=True) as client:
        await offer(client, 200, 1.0)
        edge = Server(running.pids["edge"], running.ports["edge"], SUBPROTOCOL)
        visitors = await asyncio.create_subprocess_exec(
            *edge.command("dashboards", count=DASHBOARDS, seconds=seconds),
            stdout=asyncio.subprocess.PIPE,
        )
        began_s, edge_s = time.perf_counter(), cpu_seconds(edge.pid)
        # They need a moment to open, and shall see tasks all the time.
        offering = asyncio.create_task(offer(client, RATE, seconds + OPENING_S))
        told, _ = await visitors.communicate()
        edge_share = (cpu_seconds(edge.pid) - edge_s) / (time.perf_counter() - began_s)
        count, acknowledged = await offering
        unfinished, lag_s = await _settled(client)
    found: dict[str, Any] = json.loads(told)
    return [
        Row("tasks offered and acknowledged", count / acknowledged, "/s", note="200 B, 8 types"),
        Row("the last of them finished after the last was acknowledged", lag_s, "s"),
        Row("tasks that did not finish", unfinished, "", most=0),
        Row("updates to a dashboard", found["updates_per_s"], "/s"),
        Row("the same, in bytes", found["kb_per_s"], "kB/s"),
        Row("time between two updates of the plots, p50", found["gap_p50_s"], "s", note="asked: 1"),
        Row("the same, p99", found["gap_p99_s"], "s"),
        Row("dashboards that hear the same update", found["readers"], ""),
        Row("from the first to hear an update to the last, p50", found["spread_p50_ms"], "ms"),
        Row("the same, p99", found["spread_p99_ms"], "ms"),
        Row("CPU of Edge", edge_share, "cores", note="with the opening of the dashboards"),
    ]


async def _settled(client: Client) -> tuple[int, float]:
    """Wait until nothing is unfinished; return what is after all, and the seconds it took."""
    began_s = time.perf_counter()
    while True:
        stats = await client.queue_stats()
        unfinished = sum(each.count for each in stats.states if each.state not in TERMINAL)
        passed_s = time.perf_counter() - began_s
        if not unfinished or passed_s > SETTLE_S_MAX:
            return unfinished, passed_s
        await asyncio.sleep(0.1)


def page(scale: float) -> Sequence[Row]:
    """Load the dashboard again and again into a browser that has never seen it."""
    return uvloop.run(_page(max(1, int(LOADS * scale))))


async def _page(loads: int) -> list[Row]:
    found: list[dict[str, float]] = []
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    async with _fleet() as running, Client(_settings(running), inline=True) as client:
        await offer(client, 200, 2.0)
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
            for _ in range(loads + 1):
                found.append(await _load(browser, running.dashboard))
            await browser.close()
    # The first finds a browser that has only just started.
    paint, figures, packed = (
        statistics.median(each[name] for each in found[1:])
        for name in ("paint", "figures", "bytes")
    )
    return [
        Row("all that is loaded, compressed", packed / 1024, "KB", most=150.0),
        Row("first paint", paint, "ms", note=f"median of {loads}"),
        Row("first figures of the fleet", figures, "ms", note="connected, asked, answered, drawn"),
    ]


async def _load(browser: Browser, url: str) -> dict[str, float]:
    """Load the page in a fresh profile; times count from the navigation, in ms."""
    context = await browser.new_context(viewport={"width": 1360, "height": 900})
    opened = await context.new_page()
    await opened.add_init_script(WATCH_FOR_FIGURES)
    await opened.goto(url)
    told: dict[str, float] = await asyncio.wait_for(opened.evaluate(TOLD), 30)
    await context.close()
    return told


async def offer(client: Client, rate: float, seconds: float) -> tuple[int, float]:
    """Submit at a rate, whatever becomes of it; return how many, and until all were durable."""
    answers: list[asyncio.Future[Any]] = []
    began_s = time.perf_counter()
    while (passed_s := time.perf_counter() - began_s) < seconds:
        while len(answers) < passed_s * rate:
            kind = TYPES[len(answers) % len(TYPES)]
            answers.append(client.submit_soon(build(kind, PAYLOAD, {})))
        await asyncio.sleep(SLICE_S)
    await asyncio.gather(*answers)
    return len(answers), time.perf_counter() - began_s


@asynccontextmanager
async def _fleet() -> AsyncIterator[suite.Suite]:
    """Run all services and the agents as processes until the block ends."""
    environ = {"PODIUM_LOG_LEVEL": "warning"}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running = await stack.enter_async_context(
            suite.started(data_dir=folder, ports="free", environ=environ)
        )
        for number in range(HOSTS):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.bench.host"),
                *("--prefix", f"h{number}", "--agents", str(AGENTS // HOSTS)),
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, **running.environ},
            )
            stack.push_async_callback(process.wait)
            stack.callback(process.terminate)
            assert process.stdout is not None
            await asyncio.wait_for(process.stdout.readline(), 60)  # "ready"
        yield running


def _settings(running: suite.Suite) -> Settings:
    return Settings.from_environment(running.environ)
