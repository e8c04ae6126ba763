"""The registry as its shell sees it: agents in, changes and directives out."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping

from services.agent_registry.core.acts import Act, next_ms
from services.agent_registry.core.agent import Agent, Directive, Facts, Told
from services.agent_registry.core.breaker import Breaker, State
from services.agent_registry.core.directives import Directives
from services.agent_registry.core.filter import Filter
from services.agent_registry.core.health import Health
from services.agent_registry.core.index import Index
from services.agent_registry.core.kept import Note
from services.agent_registry.core.lease import Leases, Limits
from services.agent_registry.core.rivals import Rival
from services.kernel.errors import FailedPrecondition, NotFound, ResourceExhausted
from services.kernel.instant import Instant

NOTHING_TOLD = Told()


class Registry:
    """All agents.

    Args:
        limits: Times and bounds.
        replica_id: Tells this registry from others that share a store; empty for the only one.
    """

    def __init__(self, limits: Limits, replica_id: str = "") -> None:
        self.limits = limits
        self.replica_id = replica_id
        self.agents: dict[str, Agent] = {}
        self.index = Index()
        self.alerts = 0
        """Times that most agents of a router fell silent together."""
        self.told_s = math.inf
        """Until when other replicas could be heard of their agents."""
        self.leases = Leases(limits.grace_s, limits.suspect_s)
        self.unkept: set[str] = set()
        """Agents whose last decision was not acknowledged, since it could not be kept then."""
        self.changed: dict[str, None] = {}
        self.counted: dict[str, None] = {}
        self._notes: list[Note] = []
        self.directives = Directives()
        self.health = Health(self)

    @property
    def is_versed(self) -> bool:
        """Whether it knows what its store does: before that its word on an agent is none."""
        return self.told_s < math.inf

    # From routers.

    def opened(
        self,
        facts: Facts,
        router_id: str,
        in_flight: int,
        now: Instant,
        age_s: float = 0.0,
        told: Told = NOTHING_TOLD,
    ) -> None:
        """Note an agent's session, which lasts `age_s` already.

        Of two instances on different routers one stays; the router of the other one is told. Of an
        agent that is not known, because this registry began anew, what its router was `told` holds.
        """
        since_ms, left = now.wall_ms - round(age_s * 1e3), ""
        agent = self.agents.get(facts.agent_id)
        if agent is not None and agent.facts.instance_id != facts.instance_id:
            if agent.outlive(Rival(facts.instance_id, since_ms), router_id):
                for other in (agent.router_id, router_id):
                    self.directives.put(agent, now, other)
                return
            left = agent.router_id
            agent.give_way(Rival(facts.instance_id, since_ms))
        known, agent = agent is not None, self.put(facts, now)
        if not known:
            self.health.resume(agent, told, now)
        elif not agent.last_router_id:
            # Nothing is known but what was decided of it; its router knows its breaker.
            self.health.resume_breaker(agent, told, now)
        agent.come(router_id, self.replica_id, now)
        agent.since_ms = min(agent.since_ms or since_ms, since_ms)
        if left and left != router_id:
            self.directives.put(agent, now, left)
        agent.in_flight = in_flight
        self._heard(agent, now)
        if agent.is_special or told != NOTHING_TOLD:
            self.directives.put(agent, now)

    def closed(self, agent_id: str, router_id: str, now: Instant, *, orderly: bool) -> None:
        """Note that an agent's stream is gone; its grace runs, unless it said goodbye."""
        agent = self.agents.get(agent_id)
        if agent is None or agent.router_id != router_id:
            return
        self.speak_for(agent)
        agent.router_id = ""
        agent.in_flight = 0
        self.changed[agent_id] = None
        if orderly:
            self.offline(agent)
        else:
            self._heard(agent, now)

    def snapshot(self, router_id: str, opened: Iterable[str], now: Instant) -> None:
        """Drop sessions of a router that it does not have any more."""
        there = set(opened)
        for agent in list(self.agents.values()):
            if agent.router_id == router_id and agent.agent_id not in there:
                self.closed(agent.agent_id, router_id, now, orderly=False)

    def router_gone(self, router_id: str, now: Instant) -> None:
        """Note that a router cannot be heard; the grace of its agents runs from now.

        Those that it has told another replica of meanwhile are that one's matter.
        """
        self.directives.drop(router_id)
        for agent in list(self.agents.values()):
            if agent.router_id == router_id and agent.home == self.replica_id:
                self.closed(agent.agent_id, router_id, now, orderly=False)

    def alive(
        self, agent_id: str, router_id: str, in_flight: int, now: Instant, *, draining: bool
    ) -> None:
        """Note that an agent was heard of."""
        agent = self.agents.get(agent_id)
        if agent is None:
            return
        before = agent.status
        if not agent.present and agent.last_router_id == router_id:
            # It was taken for gone while its session lived: nothing else would bring it back.
            agent.come(router_id, self.replica_id, now)
        if agent.router_id != router_id:
            return
        agent.silent = False
        changed = agent.in_flight != in_flight
        agent.in_flight = in_flight
        if draining and not agent.draining:
            agent.draining, agent.reason = True, "The agent drains."
        self.leases.touch(agent, now.mono_s)
        agent.heard_ms = now.wall_ms
        if changed or agent.status is not before:
            self.changed[agent_id] = None

    # From operators.

    def register(self, facts: Facts, now: Instant) -> Agent:
        """Introduce an agent before its session, or again.

        Raises:
            ResourceExhausted: TOO_MANY_AGENTS.
        """
        known = self.agents.get(facts.agent_id)
        if known is not None and known.present:
            # Which instance it is, its session tells.
            facts = facts._replace(instance_id=known.facts.instance_id)
        agent = self.put(facts, now)
        if not agent.present:
            self.speak_for(agent)
        return agent

    def get(self, agent_id: str) -> Agent:
        """Return an agent.

        Raises:
            NotFound: AGENT_NOT_FOUND.
        """
        agent = self.agents.get(agent_id)
        if agent is None:
            raise NotFound(
                "AGENT_NOT_FOUND",
                f"There is no agent {agent_id}.",
                metadata={"agent_id": agent_id},
            )
        return agent

    def find(self, wanted: Filter) -> set[str]:
        """Return the ids of the agents a filter selects."""
        found = self.index.having(wanted.capabilities)
        return {agent_id for agent_id in found if wanted.matches(self.agents[agent_id])}

    def page(self, wanted: Filter, after: str, size: int) -> tuple[list[Agent], int, bool]:
        """Return agents after an id, how many match in all, and whether there are more."""
        found = self.find(wanted)
        rest = [agent_id for agent_id in found if agent_id > after]
        ids = heapq.nsmallest(size, rest)
        return [self.agents[agent_id] for agent_id in ids], len(found), len(rest) > size

    def update(self, agent_id: str, changes: Mapping[str, object], now: Instant) -> Agent:
        """Change what an agent says of itself, for as long as it is known."""
        agent = self.get(agent_id)
        self._decide(agent, Note("update", agent_id, changes=tuple(changes.items())), now)
        return agent

    def drain(self, agent_ids: Iterable[str], reason: str, now: Instant) -> list[str]:
        """Let agents finish what they have."""
        drained, reason = [], reason or "An operator drains it."
        for agent_id in agent_ids:
            agent = self.get(agent_id)
            self._decide(agent, Note("drain", agent_id, agent.facts.instance_id, reason), now)
            drained.append(agent_id)
        return sorted(drained)

    def quarantine(self, agent_id: str, reason: str, now: Instant) -> Agent:
        """Keep an agent from work until it is released."""
        agent = self.get(agent_id)
        reason = reason or "An operator keeps it from work."
        self._decide(agent, Note("quarantine", agent_id, reason=reason), now)
        return agent

    def release(self, agent_id: str, now: Instant) -> Agent:
        """End a quarantine and close the breaker.

        Raises:
            FailedPrecondition: NOT_QUARANTINED, nothing keeps the agent from work.
        """
        agent = self.get(agent_id)
        if not agent.quarantined and agent.breaker.state is State.CLOSED:
            last = agent.acts.get("quarantine")
            if last is not None and last.kind == "release" and agent_id in self.unkept:
                return agent  # asked again, since it could not be kept
            message = f"Agent {agent_id} is neither in quarantine nor is its breaker open."
            raise FailedPrecondition("NOT_QUARANTINED", message, metadata={"agent_id": agent_id})
        self._decide(agent, Note("release", agent_id), now)
        return agent

    def carry_out(self, agent: Agent, acts: Iterable[Act], now: Instant) -> None:
        """Do what operators have decided, as far as nothing newer is known on the same matter."""
        for act in acts:
            if not act.outdoes(agent.acts.get(act.matter)):
                continue
            agent.acts[act.matter] = act
            if act.kind == "drain" and act.instance_id == agent.facts.instance_id:
                agent.draining, agent.reason = True, act.reason
            elif act.kind == "quarantine":
                agent.quarantined, agent.reason = True, act.reason
            elif act.kind == "release":
                agent.quarantined, agent.reason = False, ""
                self.health.pardon(agent)
            elif act.kind == "update":
                agent.changes[act.field] = act.value
                agent.facts = agent.facts._replace(**{act.field: act.value})  # type: ignore[arg-type]  # named by the mask
            self.changed[agent.agent_id] = None
            if act.kind != "update":
                self.directives.put(agent, now)

    def deregister(self, agent_id: str) -> None:
        """Forget an agent that is offline.

        Raises:
            FailedPrecondition: AGENT_CONNECTED.
        """
        agent = self.get(agent_id)
        if agent.present:
            message = f"Agent {agent_id} is connected or was a moment ago; drain and stop it first."
            raise FailedPrecondition("AGENT_CONNECTED", message, metadata={"agent_id": agent_id})
        self.forget(agent)

    # Time, and what is to be told.

    def tick(self, now: Instant) -> None:
        """Expire, doubt and forgive what is due."""
        due = self.leases.due(now.mono_s, self.told_s, self.replica_id)
        for agent in due.expired:
            self.offline(agent)
        for agent in due.suspect:
            agent.silent = True
            self.changed[agent.agent_id] = None
        self.alerts += bool(due.extended)
        self.health.tick(now)

    def sweep(self, now: Instant) -> None:
        """Forget agents that have been offline for long."""
        forget_s = now.mono_s - self.limits.forget_s
        for agent in list(self.agents.values()):
            if not agent.present and agent.heard_s < forget_s and not agent.quarantined:
                self.forget(agent)

    def take_changes(self) -> list[str]:
        """Return the ids of agents that changed, came or went since the last call."""
        changed = list(self.changed)
        self.changed.clear()
        return changed

    def take_counted(self) -> list[str]:
        """Return the ids of agents whose numbers alone may have changed since the last call."""
        counted = list(self.counted)
        self.counted.clear()
        return counted

    def take_notes(self) -> list[Note]:
        """Return what other replicas must learn."""
        notes, self._notes = self._notes, []
        return notes

    def take_directives(self) -> dict[str, list[Directive]]:
        """Return what each router must be told."""
        return self.directives.take()

    def put(self, facts: Facts, now: Instant) -> Agent:
        """Know an agent, or know it anew.

        Raises:
            ResourceExhausted: TOO_MANY_AGENTS.
        """
        agent = self.agents.get(facts.agent_id)
        if agent is None:
            if len(self.agents) >= self.limits.agents_max:
                self._make_room()
            breaker = Breaker(self.limits.breaker_open_s)
            agent = Agent(facts, now.wall_ms, now.wall_ms, now.mono_s, breaker=breaker)
            self.agents[facts.agent_id] = agent
        agent.facts = facts._replace(**agent.changes) if agent.changes else facts  # type: ignore[arg-type]  # named by the mask
        self.index.put(facts.agent_id, facts.capabilities)
        self.changed[facts.agent_id] = None
        return agent

    def forget(self, agent: Agent) -> None:
        """Know an agent no longer."""
        del self.agents[agent.agent_id]
        self.index.remove(agent.agent_id)
        self.leases.remove(agent.agent_id)
        self.health.forget(agent)
        self.unkept.discard(agent.agent_id)
        self.changed[agent.agent_id] = None

    def offline(self, agent: Agent) -> None:
        """Note that an agent is gone."""
        self.leases.remove(agent.agent_id)
        agent.present = False
        agent.router_id = ""
        agent.in_flight = 0
        self.changed[agent.agent_id] = None

    def speak_for(self, agent: Agent) -> None:
        """Be the replica that others believe about an agent."""
        if agent.home != self.replica_id:
            agent.home, agent.term = self.replica_id, agent.term + 1

    # Inside.

    def _decide(self, agent: Agent, note: Note, now: Instant) -> None:
        """Do what an operator asks here, and let it be kept and told."""
        if not agent.present:
            self.speak_for(agent)
        note = note._replace(at_ms=next_ms(agent.acts, now.wall_ms), by=self.replica_id)
        self.carry_out(agent, note.acts, now)
        self.note(note)

    def note(self, note: Note) -> None:
        """Let other replicas learn something."""
        if self.replica_id:
            self._notes.append(note)

    def _make_room(self) -> None:
        # A quarantine holds until somebody ends it, so one under it is not forgotten.
        offline = [each for each in self.agents.values() if not (each.present or each.quarantined)]
        if not offline:
            most = self.limits.agents_max
            message, told = f"There are {most} agents already.", {"agents_max": str(most)}
            raise ResourceExhausted("TOO_MANY_AGENTS", message, metadata=told, retry_after_s=60.0)
        # Those longest gone; a tenth at once, since looking for them costs a walk over all.
        count = max(1, self.limits.agents_max // 10)
        for agent in heapq.nsmallest(count, offline, key=lambda agent: agent.heard_s):
            self.forget(agent)

    def _heard(self, agent: Agent, now: Instant) -> None:
        agent.heard_ms = now.wall_ms
        self.leases.touch(agent, now.mono_s)
