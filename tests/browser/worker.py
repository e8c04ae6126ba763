"""An agent for the browser tests: `python -m tests.browser.worker <agent id> <kind>...`."""

from __future__ import annotations

import asyncio
import sys

from podium.sdk.agent import Agent
from podium.sdk.context import Context
from podium.sdk.errors import PodiumError
from podium.sdk.host import AgentHost
from tests.browser.corpus import CORPUS

HOSTILE = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>{{7*7}}'


async def count(text: str, task: Context) -> dict[str, int]:
    task.progress(0.5, f"counting {HOSTILE}")
    return {"words": len(text.split())}


async def sleep(text: str, task: Context) -> str:
    for step in range(1, 600):
        task.progress(min(0.9, step / 100), f"step {step}")
        await asyncio.sleep(0.1)
    return "slept"


async def echo(text: str, task: Context) -> str:
    return text


async def fail(text: str, task: Context) -> str:
    raise ValueError(f"it never works {HOSTILE}")


async def corpus(number: int, task: Context) -> str:
    """Says one of the hostile texts wherever an agent can say something."""
    text = CORPUS[number]
    task.progress(0.5, text)
    if number % 2:
        raise ValueError(text)
    return text


async def ask(text: str, task: Context) -> str:
    return f"painted {task.need_input('Which colour?')}"


async def die_first(text: str, task: Context) -> str:
    if task.attempt == 1:
        await asyncio.sleep(60)
    return f"done by {task.agent_id}"


KINDS = {
    "text.words": count,
    "text.sleep": sleep,
    "text.echo": echo,
    "text.fail": fail,
    "text.die": die_first,
    "text.corpus": corpus,
    "text.ask": ask,
}


def named(text: str, agent_id: str, kinds: list[str]) -> Agent:
    printable = "".join(character for character in text if character.isprintable())
    agent = Agent(printable[:128], agent_id=agent_id, labels={"note": printable})
    for kind in kinds:
        agent.handles(kind)(KINDS[kind])
    return agent


async def main(agent_id: str, kinds: list[str]) -> None:
    agents = [named(f"Worker {HOSTILE}", agent_id, kinds)]
    if "text.corpus" in kinds:
        agents += [named(text, f"{agent_id}-{at}", kinds) for at, text in enumerate(CORPUS)]
    async with AgentHost(agents):
        print("working", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2:]))
    except PodiumError as error:
        sys.exit(str(error))
