"""Why nobody can do something now, told from all agents that the registry knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches

from podium.cli.output import plain
from podium.sdk import versions
from podium.sdk.versions import meets
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
    has = [{each.name: each.version for each in agent.capabilities} for agent in agents]
    able = [agent for agent, its in zip(agents, has, strict=True) if meets(its, wanted)]
    if able:
        yield "No agent takes such work now. Who can do it:"
        for agent in able[:AGENTS_LEN_MAX]:
            yield f"  {plain(agent.agent_id)}: {_state(agent)}"
        if len(able) > AGENTS_LEN_MAX:
            yield f"  and {len(able) - AGENTS_LEN_MAX} more"
        return
    yield f"No agent can do {'all of this' if len(wanted) > 1 else 'this'}:"
    for each in wanted:
        count = sum(meets(its, [each]) for its in has)
        if count:
            yield f"  {plain(each)}: {count} {'agent has' if count == 1 else 'agents have'} it"
        else:
            yield f"  {plain(each)}: nobody has it{_hint(each, has)}"
    if not agents:
        yield "No agent is known yet. `podium agent run MODULE:AGENT` starts one."


def _hint(wanted: str, has: Sequence[Mapping[str, str]]) -> str:
    """Returns in which versions agents have it, or what is called much like it."""
    name = versions.plain(wanted)
    found = {its[name] or "none" for its in has if name in its}
    if found:
        return f"; the versions there are: {', '.join(map(plain, sorted(found)))}"
    known = sorted(set().union(*has))
    near = ", ".join(map(plain, get_close_matches(name, known, NEAREST_LEN_MAX)))
    return f"; the nearest that is known: {near}" if near else ""


def _state(agent: agent_pb2.Agent) -> str:
    state = _KEPT.get(agent.status, "")
    if not state:
        state = "kept from work after failures, until its breaker closes"
    return f"{state} ({plain(agent.status_reason)})" if agent.status_reason else state
