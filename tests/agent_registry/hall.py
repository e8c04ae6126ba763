"""A registry's core under test: agents and outcomes in a line each."""

from __future__ import annotations

from typing import Any

from services.agent_registry.core.agent import Agent, Directive, Facts, Skill, Told
from services.agent_registry.core.lease import Limits
from services.agent_registry.core.registry import NOTHING_TOLD, Registry
from services.kernel.instant import Instant


def facts(agent_id: str, *capabilities: str, **given: Any) -> Facts:
    skills = tuple(Skill(name, 1.0, "") for name in capabilities or ("echo",))
    return Facts(agent_id, instance_id=given.pop("instance", "i1"), skills=skills, **given)


class Hall:
    """Drives a registry; time stands still until it is moved."""

    def __init__(self, **limits: Any) -> None:
        self.registry = Registry(Limits(**limits))
        self.time = Instant(1_000.0, 1_700_000_000_000)
        self.directives: list[tuple[str, Directive]] = []

    def agent(
        self,
        agent_id: str,
        *capabilities: str,
        router: str = "r1",
        told: Told = NOTHING_TOLD,
        **given: Any,
    ) -> Agent:
        said = facts(agent_id, *capabilities, **given)
        self.registry.opened(said, router, 0, self.time, told=told)
        return self.registry.agents[agent_id]

    def sleep(self, seconds: float) -> None:
        end_s = self.time.mono_s + seconds
        while self.time.mono_s < end_s:
            self.time = Instant(self.time.mono_s + 1.0, self.time.wall_ms + 1_000)
            self.registry.tick(self.time)
            self.tell()

    def alive(self, *agent_ids: str, router: str = "r1", load: int = 0) -> None:
        for agent_id in agent_ids:
            self.registry.alive(agent_id, router, load, self.time, draining=False)

    def outcome(self, agent_id: str, kind: str, task_id: str = "", run_s: float = 1.0) -> None:
        self._tasks = getattr(self, "_tasks", 0) + 1
        task = task_id or f"task-{self._tasks}"
        self.registry.health.outcome(agent_id, task, "echo", kind, run_s, self.time)
        self.tell()

    def tell(self) -> None:
        for router_id, directives in self.registry.take_directives().items():
            self.directives.extend((router_id, directive) for directive in directives)
