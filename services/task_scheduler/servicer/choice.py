"""Which tasks a request means, and what of them its caller may know."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from podium.v1 import task_pb2
from services.kernel import limits
from services.kernel.auth import Principal, current_principal
from services.kernel.pages import decode_token, encode_token
from services.kernel.rules import Checker
from services.task_scheduler.core import catalog
from services.task_scheduler.core.book import Book
from services.task_scheduler.core.catalog import Filter, Page
from services.task_scheduler.core.control import not_found
from services.task_scheduler.core.states import PAUSABLE, State
from services.task_scheduler.core.task import Task
from services.task_scheduler.ports import Desk
from services.task_scheduler.servicer.drafts import OPERATOR

SERVICE = "service"
NO_STATE = frozenset({-1})
STEP_LEN = 250
"""Tasks to which something is done before others get their turn."""


class Chosen(Protocol):
    """A request that names tasks by ids or by a filter."""

    @property
    def task_ids(self) -> Sequence[str]:
        """The ids."""

    @property
    def filter(self) -> task_pb2.TaskFilter:
        """The filter."""

    @property
    def page_token(self) -> str:
        """Where to go on among what the filter means."""


Pages = Callable[[Book, Filter, str, int], Page]


class Done(NamedTuple):
    """What was done to the tasks that a request means."""

    task_ids: list[str]
    """Those to which it could be done."""
    next_page_token: str
    """Where to go on; empty at the end."""
    named: list[Task]
    """Those that were named by ids."""


class Choice:
    """Finds the tasks that are meant."""

    def __init__(self, desk: Desk, page_key: bytes) -> None:
        self._desk = desk
        self._key = page_key

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

    async def each(
        self,
        request: Chosen,
        by_filter: bool,
        narrow: Callable[[Filter], Filter],
        act: Callable[[Task], bool],
        pages: Pages = catalog.page,
    ) -> Done:
        """Do something to each task that a request names by ids or, narrowed, by a filter.

        Others get their turn between parts of what a filter means, so each part is done as soon as
        it is found: a moment later its tasks may not be there any more.

        Args:
            request: Names the tasks.
            by_filter: Whether it has a filter.
            narrow: Leaves tasks out with which nothing is to be done.
            act: Does it, and tells whether it was possible.
            pages: In which order a filter's tasks come.
        """
        checker = Checker()
        checker.length("task_ids", len(request.task_ids), limits.batch_len_max)
        either = bool(request.task_ids) != by_filter
        checker.require("task_ids", either, "or filter must be given, and not both")
        checker.require("page_token", by_filter or not request.page_token, "needs a filter")
        checker.done()
        if request.task_ids:
            tasks = [self.visible(task_id) for task_id in dict.fromkeys(request.task_ids)]
            return Done([task.task_id for task in tasks if act(task)], "", tasks)
        desk, wanted = self._desk, narrow(self.filter(request.filter))
        arguments = list_arguments(request.filter)
        position = decode_token(request.page_token, arguments, self._key)
        done: list[str] = []
        left = limits.batch_len_max
        while True:
            page = pages(desk.core.book, wanted, position, min(left, STEP_LEN))
            done += [task.task_id for task in page.tasks if act(task)]
            position, left = page.before, left - len(page.tasks)
            if not position or not left:
                break
            desk.wake()
            await asyncio.sleep(0)
            desk.check()
        return Done(done, encode_token(position, arguments, self._key) if position else "", [])

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
        checker.text("filter.concurrency_key", message.concurrency_key)
        checker.done()
        tenant = only_tenant()
        labels = Labels(message.labels)

        def also(task: Task) -> bool:
            return (tenant is None or task.tenant == tenant) and labels.of(task)

        return Filter(
            frozenset(message.states),
            message.type,
            message.tenant,
            message.agent_id,
            message.failure_text,
            message.concurrency_key,
            also if message.labels or tenant is not None else None,
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


class Labels:
    """Tells whether tasks have some labels; to read a task takes as long as to look at fifty."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._labels = dict(labels)
        self._parts = [_label(*pair) for pair in self._labels.items()]

    def of(self, task: Task) -> bool:
        """Whether a task has all of them."""
        head = task.head
        for part in self._parts:
            if part not in head:
                return False
        if not self._parts:
            return True
        # The same bytes may stand elsewhere.
        actual = task_pb2.TaskSpec.FromString(head).labels
        return all(actual.get(key) == value for key, value in self._labels.items())


def _label(key: str, value: str) -> bytes:
    """Return what a task that has a label contains."""
    entry = task_pb2.TaskSpec(labels={key: value}).SerializeToString()
    # Without the length before it; an empty value need not be written.
    at = entry.index(key.encode())
    return entry[at:] if value else key.encode()


def list_arguments(message: task_pb2.TaskFilter) -> bytes:
    """Return what the page tokens of a filter are bound to: the filter, and who asks."""
    return message.SerializeToString(deterministic=True) + current_principal().subject.encode()
