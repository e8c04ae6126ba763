"""Agents for commands to name."""

from __future__ import annotations

from podium.sdk.agent import Agent

agent = Agent("worker", agent_id="a1")
idle = Agent("idle", agent_id="a2")


@agent.handles("work")
async def work(payload: str) -> str:
    return payload
