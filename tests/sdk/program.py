"""A program as people write them: handlers, and without a guard `agent.main()` as last line."""

from __future__ import annotations

import logging
import time

from podium.sdk.agent import Agent
from podium.sdk.context import Context

logging.basicConfig(level=logging.INFO, format="%(message)s")
agent = Agent("program", agent_id="a1", capacity=2)


@agent.handles("work", pool="process")
def work(payload: str, task: Context) -> str:
    task.progress(0.1, "begun")
    time.sleep(float(payload))
    return f"{payload} s later"


agent.main()
