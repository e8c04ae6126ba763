"""A program with a loop of its own, one of whose parts is an agent: as `run`, or as a host."""

from __future__ import annotations

import asyncio
import signal
import sys

from podium.sdk.agent import Agent
from podium.sdk.context import Context
from podium.sdk.host import AgentHost

agent = Agent("embedded", agent_id="a1", capacity=2)


@agent.handles("work")
async def work(payload: str, task: Context) -> str:
    task.progress(0.1, "begun")
    await asyncio.sleep(float(payload))
    return f"{payload} s later"


async def hosted() -> None:
    host = AgentHost([agent])
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, host.stop)
    await host.run()


asyncio.run(agent.run() if sys.argv[1] == "run" else hosted())
