"""A program whose handlers do not return, each in a way of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from podium.sdk import exits, host
from podium.sdk.agent import Agent
from podium.sdk.context import Context
from podium.sdk.host import AgentHost, run_until_signal

agent = Agent("stuck", agent_id="a1", capacity=2)


@agent.handles("thread")
def thread(payload: str, task: Context) -> None:
    task.progress(0.1, "begun")
    time.sleep(3600)


@agent.handles("swallow")
async def swallow(payload: str, task: Context) -> None:
    task.progress(0.1, "begun")
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)


@agent.handles("pool")
async def pool(payload: str, task: Context) -> None:
    task.progress(0.1, "begun")
    await asyncio.gather(*(asyncio.to_thread(time.sleep, 3600) for _ in range(64)))


@agent.handles("loop")
async def loop(payload: str, task: Context) -> None:
    task.progress(0.1, "begun")
    for _ in range(3):
        await asyncio.sleep(0)  # so that it is told
    time.sleep(3600)  # noqa: ASYNC251 - that it holds up the loop is the point


if __name__ == "__main__":
    exits.HEAR_S_MAX = exits.CLOSE_S_MAX = 0.3
    vars(host)["STOP_S_MAX"] = 0.3
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run_until_signal(AgentHost([agent], grace_s=0.2))
