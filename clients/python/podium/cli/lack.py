"""Why nobody can do something now, told from all agents that the registry knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from podium.cli.output import plain
from podium.v1 import agent_pb2

AGENTS_LEN_MAX = 10
NEAREST_LEN_MAX = 3

_KEPT = {
    agent_pb2.Agent.STATUS_DRAINING: "draining",
    agent_pb2.Agent.STATUS_QUARANTINED: "quarantined",
    agent_pb2.Agent.STATUS_SUSPECT: "not heard of for a while",
    agent_pb2.Agent.STATUS_OFFLINE: "offline",
}


def reasons(wanted: Sequence[str], agents: Sequence[agent_pb2.Agent]) -> Iterator[str]:
    """Yields lines for people: who could do it and what keeps each from it, or what nobody has.

    Args:
        wanted: the capabilities that an agent must have.
        agents: all agents that are known, of which none takes such work now.
    """
    names = [{each.name for each in agent.capabilities} for agent in agents]
    able = [agent for agent, has in zip(agents, names, strict=True) if has.issuperset(wanted)]
    if able:
        yield "No agent takes such work now. Who can do it:"
        for agent in able[:AGENTS_LEN_MAX]:
            yield f"  {plain(agent.agent_id)}: {_state(agent)}"
        if len(able) > AGENTS_LEN_MAX:
            yield f"  and {len(able) - AGENTS_LEN_MAX} more"
        return
    yield f"No agent can do {'all of this' if len(wanted) > 1 else 'this'}:"
    known = sorted(set().union(*names))
    for name in wanted:
        count = sum(name in has for has in names)
        if count:
            yield f"  {plain(name)}: {count} {'agent has' if count == 1 else 'agents have'} it"
            continue
        near = ", ".join(map(plain, get_close_matches(name, known, NEAREST_LEN_MAX)))
        hint = f"; the nearest that is known: {near}" if near else ""
        yield f"  {plain(name)}: nobody has it{hint}"
    if not agents:
        yield "No agent is known yet. `podium agent run MODULE:AGENT` starts one."


def _state(agent: agent_pb2.Agent) -> str:
    state = _KEPT.get(agent.status, "")
    if not state:
        state = "kept from work after failures, until its breaker closes"
    return f"{state} ({plain(agent.status_reason)})" if agent.status_reason else state
