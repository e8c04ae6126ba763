"""A process of agents whose handlers return at once: the instant at which they began.

The agents are those of the SDK, as people run them: on one stream together, or on one each.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from contextlib import AsyncExitStack

import uvloop

from podium.sdk.agent import Agent
from podium.sdk.host import AgentHost
from tests.bench.workload import TYPES


def agent_of(name: str) -> Agent:
    """Return an agent that can do every type of the workload, one task at a time."""
    agent = Agent(name, agent_id=name, capacity=1)
    for kind in TYPES:

        @agent.handles(kind)
        async def begun(data: bytes) -> bytes:
            return str(time.time_ns()).encode()

    return agent


async def run(prefix: str, agents: int, streams: int) -> None:
    """Work until told to stop."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    everyone = [agent_of(f"{prefix}-{number:03}") for number in range(agents)]
    share = agents // streams
    async with AsyncExitStack() as stack:
        for first in range(0, agents, share):
            host = AgentHost(everyone[first : first + share], inline=True, grace_s=1.0)
            await stack.enter_async_context(host)
        print("ready", flush=True)
        await stopping.wait()


def main() -> int:
    """Run the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prefix", default="bench")
    parser.add_argument("--agents", type=int, default=50)
    parser.add_argument("--streams", type=int, default=1)
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(run(arguments.prefix, arguments.agents, arguments.streams))
    return 0


if __name__ == "__main__":
    sys.exit(main())
