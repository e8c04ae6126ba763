"""Which tasks a request means, and what of them its caller may know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from podium.v1 import task_pb2
from services.kernel import limits
from services.kernel.auth import Principal, current_principal
from services.kernel.rules import Checker
from services.task_scheduler.core import catalog
from services.task_scheduler.core.catalog import Filter
from services.task_scheduler.core.control import not_found
from services.task_scheduler.core.states import PAUSABLE, State
from services.task_scheduler.core.task import Task
from services.task_scheduler.ports import Desk
from services.task_scheduler.servicer.drafts import OPERATOR

SERVICE = "service"
NO_STATE = frozenset({-1})


class Chosen(Protocol):
    """A request that names tasks by ids or by a filter."""

    @property
    def task_ids(self) -> Sequence[str]:
        """The ids."""

    @property
    def filter(self) -> task_pb2.TaskFilter:
        """The filter."""


class Choice:
    """Finds the tasks that are meant."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def visible(self, task_id: str) -> Task:
        """Return a task that the caller may know of.

        Raises:
            NotFound: TASK_NOT_FOUND.
        """
        checker = Checker()
        checker.identifier("task_id", task_id)
        checker.done()
        task = self._desk.core.control.find(task_id)
        tenant = only_tenant()
        if tenant is not None and task.tenant != tenant:
            raise not_found(task_id)
        return task

    def chosen(
        self, request: Chosen, by_filter: bool, narrow: Callable[[Filter], Filter]
    ) -> list[Task]:
        """Return the tasks that a request names by ids or, narrowed, by a filter."""
        checker = Checker()
        checker.length("task_ids", len(request.task_ids), limits.batch_len_max)
        either = bool(request.task_ids) != by_filter
        checker.require("task_ids", either, "or filter must be given, and not both")
        checker.done()
        if request.task_ids:
            return [self.visible(task_id) for task_id in dict.fromkeys(request.task_ids)]
        wanted = narrow(self.filter(request.filter))
        return catalog.matching(self._desk.core.book, wanted, limits.batch_len_max)

    def filter(self, message: task_pb2.TaskFilter) -> Filter:
        """Return the core's filter, narrowed to what the caller may see."""
        checker = Checker()
        for index, state in enumerate(message.states):
            known = state in task_pb2.Task.State.values() and state != 0
            checker.require(f"filter.states[{index}]", known, "must be a state")
        checker.key("filter.type", message.type, optional=True)
        checker.key("filter.tenant", message.tenant, optional=True)
        checker.labels("filter.labels", message.labels)
        checker.identifier("filter.agent_id", message.agent_id, optional=True)
        checker.text("filter.failure_text", message.failure_text)
        checker.done()
        tenant = only_tenant()
        labels = dict(message.labels)

        def also(task: Task) -> bool:
            return (tenant is None or task.tenant == tenant) and _has_labels(task, labels)

        return Filter(
            frozenset(message.states),
            message.type,
            message.tenant,
            message.agent_id,
            message.failure_text,
            also if labels or tenant is not None else None,
        )


def only_tenant() -> str | None:
    """Return the only tenant that the caller may see, or None when it may see all."""
    principal: Principal = current_principal()
    if principal.may(OPERATOR) or principal.may(SERVICE):
        return None
    return principal.tenant


def open_ones(wanted: Filter) -> Filter:
    """Narrow a filter to tasks that have not ended."""
    also = wanted.also
    return wanted._replace(also=lambda task: not task.ended and (also is None or also(task)))


def pausable(wanted: Filter) -> Filter:
    """Narrow a filter to tasks that can be paused."""
    also = wanted.also
    return wanted._replace(
        also=lambda task: task.state in PAUSABLE and (also is None or also(task))
    )


def in_state(state: State) -> Callable[[Filter], Filter]:
    """Return what narrows a filter to tasks in one state."""

    def narrow(wanted: Filter) -> Filter:
        states = wanted.states or {state}
        return wanted._replace(states=frozenset(states & {state}) or NO_STATE)

    return narrow


def _has_labels(task: Task, labels: dict[str, str]) -> bool:
    if not labels:
        return True
    actual = task_pb2.TaskSpec.FromString(task.head).labels
    return all(actual.get(key) == value for key, value in labels.items())
