"""An agent for the system tests: `python -m tests.system.worker <agent id> <capacity> <type>...`.

What it does with a task is written in the task: a word and a number.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import sys
import time

from podium.sdk.agent import Agent
from podium.sdk.context import Context
from podium.sdk.host import AgentHost, run_until_signal
from tests.support.waiting import eventually


async def work(text: str, task: Context) -> str:
    print(f"began {task.task_id} {task.attempt}", flush=True)
    try:
        await do(text, task)
    except asyncio.CancelledError:
        print(f"stopped {task.task_id} {task.cancel_reason}", flush=True)
        raise
    print(f"ended {task.task_id} {task.attempt}", flush=True)
    _, _, number = text.partition(" ")
    return "x" * int(number) if text.startswith("large") else f"{task.agent_id} {task.attempt}"


async def do(text: str, task: Context) -> None:
    word, _, number = text.partition(" ")
    amount = float(number or 0)
    match word:
        case "sleep":
            await asyncio.sleep(amount)
        case "block":
            time.sleep(amount)  # noqa: ASYNC251 - the fault under test
        case "crash":
            await asyncio.sleep(0.1)  # its ack is on the way: the attempt has begun
            ctypes.string_at(0)
        case "exit":
            await asyncio.sleep(0.1)
            os._exit(3)
        case "fail":
            raise ValueError("as told")
        case "first":
            if task.attempt == 1:
                await asyncio.sleep(amount)


def main(agent_id: str, capacity: str, *types: str) -> None:
    agent = Agent(agent_id, agent_id=agent_id, capacity=int(capacity))
    for kind in types:
        agent.handles(kind)(work)
    host = AgentHost([agent], grace_s=2.0)

    async def tell() -> None:
        await eventually(lambda: host.connected, within_s=60.0)
        print("accepted", flush=True)

    run_until_signal(host, beside=tell)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    main(*sys.argv[1:])
