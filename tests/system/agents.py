"""An agent process for the system tests: works for a moment, fails or waits when it is told to."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

from podium.sdk.agent import Agent
from podium.sdk.context import Context
from podium.sdk.errors import TaskError
from podium.sdk.host import AgentHost, run_until_signal


def main(agent_id: str, capacity: str) -> None:
    """Hosts one agent under this id."""
    agent = Agent(agent_id, agent_id=agent_id, capacity=int(capacity))

    @agent.handles("echo")
    async def echo(payload: Any, task: Context) -> dict[str, Any]:
        if task.attempt <= payload.get("hang_count", 0):
            await asyncio.Event().wait()
        await asyncio.sleep(payload.get("work_s", 0.0))
        if task.attempt <= payload.get("fail_count", 0):
            raise TaskError("told to", reason="TOLD_TO_FAIL")
        with task.span("inside", number=payload["number"]):
            return {"number": payload["number"], "agent": agent_id, "attempt": task.attempt}

    run_until_signal(AgentHost([agent]))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main(*sys.argv[1:])
