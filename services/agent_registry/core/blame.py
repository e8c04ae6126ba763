"""Whose fault a failure is: the task's when it fails on several agents and works on none."""

from __future__ import annotations

tasks_len_max = 10_000
agents_len_min = 2
"""Agents a task must have failed on to be at fault."""


class Blame:
    """Remembers on which agents the tasks that failed lately did so, and their types."""

    def __init__(self) -> None:
        self._tasks: dict[str, dict[str, str]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._tasks

    def failed(self, task_id: str, task_type: str, agent_id: str) -> dict[str, str] | None:
        """Note a failure.

        Returns:
            None while the agent is to blame. Once the task is: the agents that were blamed for it
            before, with the task type, for their failures to be taken back.
        """
        agents = self._tasks.pop(task_id, {})
        fresh = agent_id not in agents
        others = dict(agents)
        agents[agent_id] = task_type
        self._tasks[task_id] = agents
        if len(self._tasks) > tasks_len_max:
            del self._tasks[next(iter(self._tasks))]
        if len(agents) < agents_len_min:
            return None
        # The second agent acquits the first; whoever comes later finds nobody blamed.
        return others if fresh and len(agents) == agents_len_min else {}

    def succeeded(self, task_id: str) -> dict[str, str]:
        """Note that a task works after all; return the agents that were acquitted too early."""
        agents = self._tasks.pop(task_id, None)
        return agents if agents is not None and len(agents) >= agents_len_min else {}
