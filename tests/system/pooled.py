"""A handler for processes of their own, which must stand at the top of a module."""

from __future__ import annotations

import multiprocessing
from typing import Any

from podium.sdk.agent import Agent
from podium.sdk.context import Context

agent = Agent("pooled", agent_id="pooled-1", processes=1)


@agent.handles("pool.work", pool="process")
def work(number: int, task: Context) -> dict[str, Any]:
    task.progress(0.5, "in a process")
    task.usage(input_tokens=number)
    own = multiprocessing.parent_process() is not None
    return {"sum": sum(range(number)), "own_process": own}
