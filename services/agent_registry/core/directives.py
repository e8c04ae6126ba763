"""What each router is yet to be told about agents: the newest for each agent."""

from __future__ import annotations

from services.agent_registry.core.agent import Agent, Directive, directive_of
from services.kernel.instant import Instant


class Directives:
    """Directives that wait to be taken, by router."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[str, Directive]] = {}

    def put(self, agent: Agent, now: Instant, router_id: str = "") -> None:
        """Tell a router what it must know about an agent: its own router, or another one."""
        router_id = router_id or agent.router_id
        if router_id:
            known = self._waiting.setdefault(router_id, {})
            known[agent.agent_id] = directive_of(agent, now.mono_s)

    def drop(self, router_id: str) -> None:
        """Forget what a router was to be told."""
        self._waiting.pop(router_id, None)

    def take(self) -> dict[str, list[Directive]]:
        """Return what each router must be told, and forget it."""
        waiting, self._waiting = self._waiting, {}
        return {router_id: list(each.values()) for router_id, each in waiting.items()}
