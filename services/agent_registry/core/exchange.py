"""What the replicas of the registry tell each other, merged into one view.

One replica speaks for an agent: the one that its router is connected to. The others take over what
it says. Which of two is right is decided by the term, which grows whenever another one begins. What
operators decide is apart from that: whoever was asked keeps it, and the newest decision holds.
"""

from __future__ import annotations

from collections.abc import Mapping

from services.agent_registry.core.acts import by_matter, next_ms
from services.agent_registry.core.agent import Agent
from services.agent_registry.core.breaker import Breaker
from services.agent_registry.core.kept import Kept, Note, statistics_of
from services.agent_registry.core.registry import Registry
from services.agent_registry.core.rivals import followed, stays
from services.agent_registry.core.statistics import Statistics
from services.kernel.errors import ResourceExhausted
from services.kernel.instant import Instant

REPLICA_MARK = "@"
"""Begins the lease of a replica, which stands among those of the agents; no agent's id has it."""


class Exchange:
    """Merges what other replicas say into a registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def is_mine(self, agent: Agent) -> bool:
        """Return whether this replica speaks for an agent."""
        return agent.home == self._registry.replica_id

    def has_say(self, agent: Agent) -> bool:
        """Return whether this replica keeps an agent: its own, or one that it was asked about.

        The replica that speaks for the agent may be gone, and come back with what is kept.
        """
        return self.is_mine(agent) or agent.is_unsaid

    def adopt(self, kept: Kept, heard_ago_s: float | None, now: Instant) -> None:
        """Take over what was kept of an agent, unless this replica knows better.

        Of what operators have decided, here and there, the newest holds either way.

        Args:
            kept: What another replica, or this one before it restarted, has kept.
            heard_ago_s: Seconds since somebody heard of the agent; None when nobody has lately.
            now: The time.
        """
        before = self._registry.agents.get(kept.facts.agent_id)
        acts = tuple(before.acts.values()) if before is not None else ()
        self._adopt(kept, heard_ago_s, now)
        agent = self._registry.agents.get(kept.facts.agent_id)
        if agent is not None:
            agent.acts_kept = by_matter(kept.acts)
            self._registry.carry_out(agent, (*acts, *kept.acts), now)
            if agent.is_unsaid:
                self._registry.changed[agent.agent_id] = None

    def _adopt(self, kept: Kept, heard_ago_s: float | None, now: Instant) -> None:
        registry = self._registry
        agent, left, gone = registry.agents.get(kept.facts.agent_id), "", ""
        if agent is not None and self._contend(kept, agent):
            if stays(agent.rival, kept.rival):
                self._outlive(kept, agent, now)
                return
            left, gone = agent.router_id, agent.facts.instance_id
        elif agent is not None and not self._is_newer(kept, agent):
            if self.is_mine(agent) and kept.term == agent.term and kept.home >= agent.home:
                # Said again: another one speaks for it as well, or was asked about it and has kept
                # it as it knew it.
                registry.changed[agent.agent_id] = None
            return
        if not kept.present and self.outbid(kept.facts.agent_id, kept.term):
            # Others took it for gone while they heard nothing from here: it has a session.
            registry.changed[kept.facts.agent_id] = None
            return
        try:
            agent = registry.put(kept.facts, now)
        except ResourceExhausted:
            return  # the other replica will be asked for it
        agent.create_ms, agent.heard_ms = kept.create_ms, kept.heard_ms
        agent.home, agent.term = kept.home, max(kept.term, agent.term if left else 0)
        agent.since_ms, agent.superseded = kept.since_ms, kept.superseded
        agent.changes, agent.acts = dict(kept.changes), by_matter(kept.acts)
        agent.quarantined, agent.reason = kept.quarantined, kept.reason
        agent.router_id = agent.last_router_id = kept.router_id
        agent.silent, agent.draining = kept.silent, kept.draining
        agent.in_flight = kept.in_flight
        agent.breaker = Breaker.of(kept.breaker, now, registry.limits.breaker_open_s)
        agent.statistics = Statistics()
        for tally in kept.tallies:
            agent.statistics.put(tally.task_type, statistics_of(tally))
        self._place(agent, heard_ago_s if kept.present else None, now)
        if left:
            agent.superseded = followed(kept.superseded, gone, kept.facts.instance_id)
            registry.directives.put(agent, now, left)

    def heard(self, ages_s: Mapping[str, float], now: Instant) -> list[str]:
        """Note when other replicas have last heard of agents of theirs, in seconds ago.

        Returns:
            Agents that are there and of which this replica knows nothing, or that they are gone:
            what is kept of them is to be read again.
        """
        missed = []
        for agent_id, age_s in ages_s.items():
            if agent_id.startswith(REPLICA_MARK):
                continue
            agent = self._registry.agents.get(agent_id)
            if agent is None or not (agent.present or self.is_mine(agent)):
                if age_s < self._registry.limits.grace_s:
                    missed.append(agent_id)
            elif not self.is_mine(agent):
                self._heard(agent, age_s, now)
        return missed

    def inherit(self, ages_s: Mapping[str, float]) -> list[str]:
        """Speak for the agents that went offline after their replica: nobody else counts them.

        Args:
            ages_s: Seconds since each agent and each replica was last heard of.

        Returns:
            Leases of replicas that are long gone, to be forgotten.
        """
        registry = self._registry
        replicas = {each: age_s for each, age_s in ages_s.items() if each[:1] == REPLICA_MARK}
        living = {each for each, age_s in replicas.items() if age_s < registry.limits.suspect_s}
        if REPLICA_MARK + registry.replica_id != min(living, default=""):
            return []  # one of those that are left does it
        for agent in registry.agents.values():
            if not agent.present and REPLICA_MARK + agent.home not in living:
                registry.speak_for(agent)
                registry.changed[agent.agent_id] = None
        return [each for each, age_s in replicas.items() if age_s > registry.limits.forget_s]

    def excuse(self, now: Instant) -> None:
        """Stop the time of all agents that others speak for: they cannot be heard of now."""
        for agent in tuple(self._registry.agents.values()):
            if agent.present and not self.is_mine(agent):
                self._heard(agent, 0.0, now)

    def forget(self, agent_id: str) -> None:
        """Forget an agent that another replica has forgotten."""
        agent = self._registry.agents.get(agent_id)
        if agent is not None and not agent.router_id:
            self._registry.forget(agent)

    def outbid(self, agent_id: str, term: int) -> bool:
        """Speak up for an agent of which a higher term is kept; return whether there is reason to.

        That is so while its router is connected here: a session is newer than what is kept.
        """
        agent = self._registry.agents.get(agent_id)
        if agent is None or not self.is_mine(agent) or not agent.router_id:
            return False
        agent.term = max(agent.term, term + 1)
        return True

    def learn(self, note: Note, now: Instant) -> None:
        """Do what was asked of another replica, or remember what it saw."""
        registry = self._registry
        agent = registry.agents.get(note.agent_id)
        if note.kind == "failed":
            registry.health.acquit(note.task_id, note.task_type, note.agent_id, now)
        elif note.kind == "worked":
            registry.health.convict(note.task_id, now)
        elif agent is not None:
            # A version that does not tell when it was decided means now.
            note = note if note.at_ms else note._replace(at_ms=next_ms(agent.acts, now.wall_ms))
            registry.carry_out(agent, note.acts, now)
            # Whoever was asked keeps them.
            agent.acts_kept |= {each: act for each, act in agent.acts.items() if act in note.acts}

    def _place(self, agent: Agent, heard_ago_s: float | None, now: Instant) -> None:
        """Take up the breaker and the lease of an agent as they were kept."""
        registry = self._registry
        registry.health.place(agent)
        if heard_ago_s is None or heard_ago_s >= registry.limits.grace_s:
            registry.offline(agent)
            agent.heard_s = now.mono_s - max(0, now.wall_ms - agent.heard_ms) / 1e3
        else:
            agent.present = True
            registry.leases.touch(agent, now.mono_s - heard_ago_s)

    def _heard(self, agent: Agent, ago_s: float, now: Instant) -> None:
        registry = self._registry
        if agent.present and now.mono_s - ago_s > agent.heard_s:
            registry.leases.touch(agent, now.mono_s - ago_s)
            if agent.silent and ago_s < registry.limits.suspect_s:
                agent.silent = False
                registry.changed[agent.agent_id] = None

    def _contend(self, kept: Kept, agent: Agent) -> bool:
        """Return whether another replica's router has another instance of an agent than one here.

        Then it is not the term that tells who is right, since both sessions are there.
        """
        here = self.is_mine(agent) and agent.router_id
        there = kept.present and kept.router_id
        is_other = kept.facts.instance_id != agent.facts.instance_id
        return bool(here and there) and is_other and kept.router_id != agent.router_id

    def _outlive(self, kept: Kept, agent: Agent, now: Instant) -> None:
        """Say again, for the other replica to see, that the instance which is here stays."""
        registry = self._registry
        agent.superseded = followed(
            agent.superseded, kept.facts.instance_id, agent.facts.instance_id
        )
        agent.term = max(agent.term, kept.term + 1)
        registry.changed[agent.agent_id] = None
        registry.directives.put(agent, now)

    def _is_newer(self, kept: Kept, agent: Agent) -> bool:
        if kept.term != agent.term:
            return kept.term > agent.term
        # Two that inherited an agent at once: the first of them keeps it.
        return not self.is_mine(agent) or (kept.home < agent.home and not agent.router_id)
