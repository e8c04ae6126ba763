"""How agents do: outcomes counted, faults laid where they lie, breakers opened and closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.agent_registry.core.agent import Agent, Told
from services.agent_registry.core.blame import Blame
from services.agent_registry.core.breaker import State
from services.agent_registry.core.kept import Note

if TYPE_CHECKING:
    from services.agent_registry.core.registry import Registry
    from services.kernel.instant import Instant


class Health:
    """Judges the agents of a registry by what becomes of their attempts."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._blame = Blame()
        self.open: dict[str, Agent] = {}
        """Agents whose breaker is open."""

    def outcome(
        self,
        agent_id: str,
        task_id: str,
        task_type: str,
        kind: str,
        run_s: float,
        now: Instant,
    ) -> None:
        """Count an outcome for the agent, as far as it is the agent's."""
        agent = self._registry.agents.get(agent_id)
        if agent is None or kind == "CANCELED":
            return
        self._registry.counted[agent_id] = None
        if kind == "SUCCEEDED":
            agent.statistics.of(task_type).add(succeeded=True, run_s=run_s)
            if task_id in self._blame:
                self._registry.note(Note("worked", agent_id, task_id=task_id, task_type=task_type))
                self.convict(task_id, now)
            self._after(agent, agent.breaker.succeeded(task_id, now.mono_s), now)
            return
        self._registry.note(Note("failed", agent_id, task_id=task_id, task_type=task_type))
        if not self.acquit(task_id, task_type, agent_id, now):
            self._fail(agent, task_id, task_type, kind, now)

    def acquit(self, task_id: str, task_type: str, agent_id: str, now: Instant) -> bool:
        """Note where a task failed; return whether it is the task's fault by now.

        Once it is, the failures that other agents here were blamed for are taken back.
        """
        acquitted = self._blame.failed(task_id, task_type, agent_id)
        for other_id, other_type in (acquitted or {}).items():
            other = self._registry.agents.get(other_id)
            if other is not None and other.home == self._registry.replica_id:
                other.statistics.of(other_type).retract_failure()
                self._registry.counted[other_id] = None
                self._after(other, other.breaker.retract(task_id, now.mono_s), now)
        return acquitted is not None

    def convict(self, task_id: str, now: Instant) -> None:
        """Count the failures of a task against their agents after all: another one could do it."""
        for agent_id, task_type in self._blame.succeeded(task_id).items():
            agent = self._registry.agents.get(agent_id)
            if agent is not None and agent.home == self._registry.replica_id:
                self._fail(agent, task_id, task_type, "FAILED", now)

    def resume(self, agent: Agent, told: Told, now: Instant) -> None:
        """Go on with an agent from what its router was last told about it."""
        agent.draining, agent.quarantined, agent.reason = told[1:]
        self.resume_breaker(agent, told, now)

    def resume_breaker(self, agent: Agent, told: Told, now: Instant) -> None:
        """Go on with a breaker where its router was told that it is not closed."""
        if told.breaker is not State.CLOSED:
            agent.breaker.resume(told.breaker, now.mono_s)
            self._after(agent, True, now)

    def place(self, agent: Agent) -> None:
        """Take up an agent with its breaker as it was kept."""
        self.forget(agent)
        if agent.breaker.state is State.OPEN:
            self.open[agent.agent_id] = agent

    def pardon(self, agent: Agent) -> None:
        """Close the breaker of an agent."""
        agent.breaker.close()
        self.forget(agent)

    def forget(self, agent: Agent) -> None:
        """Watch the breaker of an agent no longer."""
        self.open.pop(agent.agent_id, None)

    def tick(self, now: Instant) -> None:
        """Let breakers that have cooled down try one attempt."""
        for agent in list(self.open.values()):
            self._after(agent, agent.breaker.tick(now.mono_s), now)

    def _fail(self, agent: Agent, task_id: str, task_type: str, kind: str, now: Instant) -> None:
        if kind != "NOT_ACKED":
            agent.statistics.of(task_type).add(succeeded=False, run_s=0.0)
        self._after(agent, agent.breaker.failed(task_id, now.mono_s), now)

    def _after(self, agent: Agent, changed: bool, now: Instant) -> None:
        if not changed:
            return
        if agent.breaker.state is State.OPEN:
            self.open[agent.agent_id] = agent
        else:
            self.open.pop(agent.agent_id, None)
        self._registry.changed[agent.agent_id] = None
        self._registry.directives.put(agent, now)
